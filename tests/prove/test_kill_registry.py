from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_registry_survives_ten_kills():
    survives(10)


@pytest.mark.prove
def test_the_registry_survives_two_hundred_kills():
    survives(200)


def survives(kills: int) -> None:
    proof = [sys.executable, "-m", "tests.prove.kill_registry", "--kills", str(kills)]
    ended = subprocess.run(proof, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"consistent after each of {kills} kills" in ended.stdout
