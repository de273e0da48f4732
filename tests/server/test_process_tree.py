"""Reading the tree of processes and ending parts of it, on real processes."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from server import process_tree

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process and its child: (parent, child)."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        yield parent.pid, child
        process_tree.kill_all([child, parent.pid], patience_seconds=20)


def test_children_and_descendants(family: tuple[int, int]) -> None:
    parent, child = family
    assert process_tree.children(parent) == [child]
    assert process_tree.children(child) == []
    assert process_tree.descendants([parent]) == [parent, child]


def test_kill_all_waits_for_the_end(family: tuple[int, int]) -> None:
    parent, child = family
    assert process_tree.kill_all([child, parent], patience_seconds=20) == []
    assert process_tree.children(parent) == []  # the child went to whoever adopts orphans


def test_what_is_gone_is_no_error(family: tuple[int, int]) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""], process_group=0)
    gone.wait()
    process_tree.kill_group(gone.pid)
    assert process_tree.kill_all([gone.pid], patience_seconds=20) == []
    process_tree.reap(gone.pid)
