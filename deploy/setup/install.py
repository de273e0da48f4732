"""The commands that fill .venv, as lists of words: what is run is what a test reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from deploy.setup import stamp

SETUP = Path(__file__).resolve().parent
Command = list[str]


def find_device() -> str:
    """`cuda` when an NVIDIA driver sees a GPU, else `cpu`."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "cpu"
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "cuda" if listed.returncode == 0 and listed.stdout.startswith("GPU ") else "cpu"


def torch_pin(lock: Path) -> str:
    """The line of a lock file that pins torch."""
    return next(line for line in lock.read_text().splitlines() if line.startswith("torch=="))


def probe_torch(pip: Command, pin: str) -> Command:
    """Asks pip, as it is configured, whether it finds torch's wheel; downloads nothing where it does not."""
    return [*pip, "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--no-input", pin]


def commands(pip: Command, root: Path, *, device: str, dev: bool, torch_index: str) -> list[tuple[str, Command]]:
    """The steps of an installation: (what it is, the command).

    Dependencies are never resolved here: a lock file names all of them. torch comes first and alone, so that
    `torch_index` (empty: not needed) is asked for that one package only.
    """
    index = ["--extra-index-url", torch_index] if torch_index else []
    pin = torch_pin(SETUP / f"{device}.txt")
    files = [word for name in stamp.locks(device, dev) for word in ("-r", str(SETUP / name))]
    install = [*pip, "install", "--no-deps", "--no-input", "--disable-pip-version-check"]
    return [
        (f"{pin} for {device}", [*install, *index, pin]),
        (f"the pinned packages of {' and '.join(stamp.locks(device, dev))}", [*install, *files]),
        ("the project itself", [*install, "--quiet", "--no-build-isolation", "--editable", str(root)]),
    ]
