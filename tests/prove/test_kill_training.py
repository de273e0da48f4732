from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.prove
def test_training_survives_kills():
    proof = [sys.executable, "-m", "tests.prove.kill_training", "--kills", "8"]
    ended = subprocess.run(proof, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "the job ended by itself" in ended.stdout
