"""What Linux offers so that no process outlives its server: death signals, adoption, the process tree."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; ends it at once when the parent is gone already.

    `parent` is the process id that the parent gave, since an orphan's `getppid` names whoever adopted it.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none gets out of sight."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def children(parent: int) -> list[int]:
    """The processes whose parent is `parent`, zombies too."""
    return _by_parent().get(parent, [])


def descendants(roots: Iterable[int]) -> list[int]:
    """The given processes and all that descend from them."""
    by_parent = _by_parent()
    found: list[int] = []
    todo = list(roots)
    while todo:
        process = todo.pop()
        found.append(process)
        todo += by_parent.get(process, [])
    return found


def kill_group(leader: int) -> None:
    """SIGKILL to a process group; a group that is gone is no error."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_all(processes: Iterable[int], *, patience_seconds: float) -> list[int]:
    """SIGKILL to each of our descendants and wait until they are gone; returns those that are still there."""
    watched = []
    for process in processes:
        try:
            descriptor = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            os.close(descriptor)
            continue
        watched.append((process, descriptor))
    deadline = time.monotonic() + patience_seconds
    left = [process for process, descriptor in watched if not _ended(descriptor, deadline)]
    for _, descriptor in watched:
        os.close(descriptor)
    return left


def reap(process: int) -> None:
    """Take note of an adopted process's end, if it has ended, so that it does not stay a zombie."""
    try:
        os.waitpid(process, os.WNOHANG)
    except ChildProcessError:
        return


def _ended(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _by_parent() -> dict[int, list[int]]:
    found: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # ended since it was listed
            continue
        parent = int(stat.rpartition(")")[2].split()[1])  # the name before it may hold anything, also ")"
        found[parent].append(int(entry.name))
    return found


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")
