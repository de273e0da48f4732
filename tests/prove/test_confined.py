"""The server as it runs in its container: process 1 of its own tree, without a single capability, on a read-only root.

Only what the image declares as writable is: two folders and a temporary one. Needs root, as making namespaces does.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import probe, process_tree
from tests.deploy.tools import ROOT

pytestmark = pytest.mark.prove

CONFINE = """
mount --make-rprivate / &&
mount --bind "$0" "$0" &&
mount -o remount,bind,ro / &&
! touch /etc/manyhats-was-here 2>/dev/null &&
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
MANYHATS = Path(sys.executable).with_name("manyhats")


def why_not() -> str:
    """Why it cannot be tried here; empty where it can."""
    if missing := [name for name in ("unshare", "setpriv", "mount") if shutil.which(name) is None]:
        return f"there is no {' and no '.join(missing)} (apt-get install util-linux)"
    tried = subprocess.run([*UNSHARE, "sh", "-c", "mount -o remount,bind,ro /"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "namespaces of processes and mounts may not be made here"


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The environment of the image, with its writable folders in `tmp_path`."""
    if reason := why_not():
        pytest.skip(reason)
    found = {"MANYHATS_DATA_DIR": tmp_path / "data", "HOME": tmp_path / "cache", "TMPDIR": tmp_path / "temporary"}
    for folder in found.values():
        folder.mkdir(mode=0o700)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {name: str(folder) for name, folder in found.items()}
    return names | {"PATH": os.environ["PATH"], "MANYHATS_ENGINE": "fake", "MANYHATS_PORT": str(port)}


@pytest.fixture
def confined(places: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [*UNSHARE, "sh", "-c", CONFINE, str(tmp_path), str(MANYHATS), "serve"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=places, stdout=log, stderr=log, cwd=ROOT)
    yield process
    process.kill()  # --kill-child: and with it process 1, whose end is the end of all
    process.wait()


def test_it_starts_answers_and_ends(confined: subprocess.Popen[bytes], places: dict[str, str], tmp_path: Path) -> None:
    ended = threading.Event()
    threading.Thread(target=lambda: (confined.wait(), ended.set()), daemon=True).start()
    log = tmp_path / "log"
    assert probe.wait_ready(f"http://127.0.0.1:{places['MANYHATS_PORT']}", ended), log.read_text()
    checked = [sys.executable, "-I", "-S", "deploy/docker/healthcheck.py"]
    assert subprocess.run(checked, cwd=ROOT, env=places, check=False).returncode == 0
    (first,) = process_tree.children(confined.pid)
    os.kill(first, signal.SIGTERM)
    assert ended.wait(60)
    assert confined.returncode == 0, log.read_text()
    assert "giving up" not in log.read_text()
