"""The packages of tests/node: those that lie there, else fetched once by npm into a folder of the run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "node"  # what is installed, with its lock
SECONDS = 120
QUIET = ("--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=0")


class NotThere(Exception):
    """Why there are no packages."""


def node_modules(folder: Path) -> Path:
    """Where the packages are; `folder` takes them where they must be fetched. Raises NotThere."""
    if (PACKAGE / "node_modules").is_dir():
        return PACKAGE / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise NotThere("the packages of tests/node are not there, and there is no npm to fetch them")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGE / name, folder)
    command = [npm, "ci", *QUIET]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotThere(f"npm did not fetch the packages of tests/node in {SECONDS} s") from None
    if done.returncode != 0:
        raise NotThere(f"npm could not fetch the packages of tests/node: {done.stderr.strip()[-300:]}")
    return folder / "node_modules"
