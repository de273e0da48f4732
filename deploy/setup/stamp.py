"""What .venv was made of, so that a second start sees in milliseconds that nothing is to be installed.

Also a program: `python -I -S deploy/setup/stamp.py [--dev] [--device cpu|cuda]` ends with 0 when nothing is to be done.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def locks(device: str, dev: bool) -> list[str]:
    """The lock files that an environment is made of, by name."""
    return [f"{device}.txt", "dev.txt"] if dev else [f"{device}.txt"]


def digest(root: Path, device: str, dev: bool) -> str:
    """One hash over everything that decides what is in .venv: the pins and the project's metadata."""
    hashed = hashlib.sha256()
    for name in locks(device, dev):
        hashed.update((root / "deploy" / "setup" / name).read_bytes())
    hashed.update((root / "pyproject.toml").read_bytes())
    return hashed.hexdigest()


def path(root: Path) -> Path:
    """The stamp's file."""
    return root / ".venv" / "manyhats-setup.json"


def read(root: Path) -> dict[str, str]:
    """The stamp: `python`, `device`, `root`, and the digests under `runtime` and `dev`; empty when there is none."""
    try:
        found = json.loads(path(root).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def begin(root: Path, *, python: str, device: str) -> None:
    """Say what .venv is being made for: whatever stops the set-up, it does not count as complete."""
    _write(root, {"python": python, "device": device, "root": str(root)})


def finish(root: Path, *, dev: bool) -> None:
    """Say that .venv is complete; the last step of a set-up."""
    stamp = read(root)
    stamp["runtime"] = digest(root, stamp["device"], dev=False)
    if dev:
        stamp["dev"] = digest(root, stamp["device"], dev=True)
    _write(root, stamp)


def _write(root: Path, stamp: dict[str, str]) -> None:
    path(root).write_text(json.dumps(stamp, indent=1) + "\n")


def is_current(root: Path, *, device: str, dev: bool) -> bool:
    """Whether .venv holds what the lock files say; `device` empty means: the one that it was made for."""
    stamp = read(root)
    made_for = stamp.get("device", "")
    if not made_for or (device and device != made_for) or stamp.get("root") != str(root):
        return False  # an environment that was moved no longer works: its programs name the old place
    if not (root / ".venv" / "bin" / "manyhats").exists():
        return False
    return stamp.get("dev" if dev else "runtime") == digest(root, made_for, dev)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    wanted = arguments[arguments.index("--device") + 1] if "--device" in arguments else ""
    sys.exit(0 if "--print" not in arguments and is_current(ROOT, device=wanted, dev="--dev" in arguments) else 1)
