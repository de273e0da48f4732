"""A process that multiprocessing started ends with its parent, however that one ends; any other is left alone."""

import importlib.metadata
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from server.engine import parent_watch

LONG = 20.0  # seconds

PARENT = """
import multiprocessing, os, sys, time

def child(out):
    from server.engine.parent_watch import watch
    watch()
    watch()  # vLLM may load its plugins again
    import threading
    watching = [thread for thread in threading.enumerate() if thread.name == "parent-watch"]
    out.send((os.getpid(), len(watching)))
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    here, there = context.Pipe()
    process = context.Process(target=child, args=(there,))
    process.start()
    print(*here.recv(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_the_child_of_a_killed_process_ends(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PARENT)
    root = Path(__file__).resolve().parents[3]
    environ = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, program, method], stdout=subprocess.PIPE, text=True, env=environ) as parent:
        assert parent.stdout
        child, n_watching = parent.stdout.readline().split()
        process = psutil.Process(int(child))
        parent.kill()
    assert n_watching == "1"
    _, alive = psutil.wait_procs([process], timeout=LONG)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_child_whose_parent_is_gone_already_ends() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    script = f"from server.engine.parent_watch import _end_with; _end_with({gone.pid}); print('still here')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, "")


def test_a_child_that_was_adopted_before_it_looked_ends() -> None:
    """Its parent's number belongs to a living process again, which is not its parent."""
    script = f"from server.engine.parent_watch import _end_with; _end_with({os.getppid()}); print('still here')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, "")


def test_a_process_that_multiprocessing_did_not_start_is_left_alone() -> None:
    assert multiprocessing.parent_process() is None
    parent_watch.watch()
    assert "parent-watch" not in {thread.name for thread in threading.enumerate()}


def test_vllm_finds_it() -> None:
    (entry,) = importlib.metadata.entry_points(group="vllm.general_plugins", name="manyhats_parent_watch")
    assert entry.load() is parent_watch.watch
