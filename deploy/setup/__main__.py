"""Makes .venv and installs everything into it, or does nothing when that is done already."""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from deploy.setup import browser, check, install, postgresql, stamp

STARTED = time.monotonic()


def main(argv: list[str]) -> int:
    """The exit status: 0 when .venv is complete, 1 when something is missing or a step failed."""
    wanted = _arguments(argv)
    root = stamp.ROOT
    (root / ".make").mkdir(exist_ok=True)
    with (root / ".make" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two set-ups at once: the second waits, and then finds the work done
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        device = wanted.device or install.find_device()
        if wanted.print:
            return _set_up(root, python, device, wanted)
        if _is_done(root, python, device, dev=wanted.dev):
            return 0
        found = check.problems(root, host=wanted.host, port=wanted.port, disk_gb=_disk_gb(root))
        if found:
            print(check.as_text(found), file=sys.stderr)
            return 1
        return _set_up(root, python, device, wanted)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.setup", description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    parser.add_argument("--device", default="", choices=["", "cpu", "cuda"], help="chosen by nvidia-smi unless given")
    parser.add_argument("--torch-index", default="", help="index for torch's wheel where pip does not find it without")
    parser.add_argument("--host", default=os.environ.get("MANYHATS_HOST") or "127.0.0.1", help="address of the server")
    parser.add_argument("--port", type=int, default=None, help="port that must be free")
    parser.add_argument("--print", action="store_true", help="print the commands and run none of them")
    return parser.parse_args(argv)


def _is_done(root: Path, python: str, device: str, *, dev: bool) -> bool:
    return stamp.read(root).get("python") == python and stamp.is_current(root, device=device, dev=dev)


def _disk_gb(root: Path) -> float:
    return 2.0 if stamp.read(root) else check.DISK_GB  # the large packages are there; some may be renewed


def _set_up(root: Path, python: str, device: str, wanted: argparse.Namespace) -> int:
    venv = root / ".venv"
    pip = [str(venv / "bin" / "python"), "-m", "pip"]
    clear = [] if _can_go_on(root, python, device) else ["--clear"]
    build_venv = [sys.executable, "-m", "venv", *clear, str(venv)]
    run = _print if wanted.print else _run
    _say(f"Python {python}, {device} build of vLLM, into {venv}")
    if not run("an empty environment", build_venv):
        return 1
    if not wanted.print:
        stamp.begin(root, python=python, device=device)
    probing = [sys.executable, "-m", "pip"] if wanted.print else pip
    pin = install.torch_pin(install.SETUP / f"{device}.txt")
    index = "" if _succeeds(install.probe_torch(probing, pin)) else wanted.torch_index
    steps = install.commands(pip, root, device=device, dev=wanted.dev, torch_index=index)
    if not all(run(what, command) for what, command in steps):
        return 1
    if wanted.dev:
        for program in (browser, postgresql):
            program.add(_print if wanted.print else _try, _say)
    if not wanted.print:
        stamp.finish(root, dev=wanted.dev)
        _say("done")
    return 0


def _can_go_on(root: Path, python: str, device: str) -> bool:
    """Whether what .venv holds can stay: made in this place, by this Python, for this device, or not there at all."""
    made = stamp.read(root)
    if made:
        return (made.get("python"), made.get("device"), made.get("root")) == (python, device, str(root))
    config = root / ".venv" / "pyvenv.cfg"
    return not config.exists() or f"version = {python}." in config.read_text()


def _say(text: str) -> None:
    print(f"[set-up {time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def _print(what: str, command: list[str]) -> bool:
    _say(what)
    print(shlex.join(command), flush=True)
    return True


def _try(what: str, command: list[str]) -> bool:
    _say(f"installing {what}")
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode == 0


def _run(what: str, command: list[str]) -> bool:
    _say(f"installing {what}")
    status = subprocess.run(command, check=False).returncode
    if status:
        print(f"\nThis step failed with status {status}: {shlex.join(command)}", file=sys.stderr)
        print("The lines above say why; the same command goes on where this one stopped.", file=sys.stderr)
    return status == 0


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
