from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT.parent / "shared" / "data" / "documents"


@pytest.mark.prove
def test_ingestion_survives_a_hundred_kills():
    if not DOCUMENTS.is_dir():
        pytest.skip(f"{DOCUMENTS} is missing: real files of many kinds")
    proof = [sys.executable, "-m", "tests.prove.kill_ingestion", "--kills", "100", "--documents", str(DOCUMENTS)]
    ended = subprocess.run(proof, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "consistent after 100 kills" in ended.stdout
