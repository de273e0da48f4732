"""Ends a vLLM process whose parent has died, so that `kill -9` of any process leaves none behind.

vLLM loads `watch` in each of its processes (entry point `vllm.general_plugins`). Its worker looks after its parent by
itself; its engine core does not, and would keep its memory and spin when the API process is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading

_watching: set[int] = set()  # process ids: a forked child inherits the set, but not the thread


def watch() -> None:
    """Start watching once per process; does nothing in one that multiprocessing did not start, as the API process."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None or os.getpid() in _watching:
        return
    _watching.add(os.getpid())
    threading.Thread(target=_end_with, args=(parent.pid,), name="parent-watch", daemon=True).start()


def _end_with(parent: int) -> None:
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        _end()
    else:
        if os.getppid() != parent:  # it died before the descriptor was open, and its number has another owner
            _end()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()  # without limit: returns when the parent has ended
        _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # nothing may hold it up: no atexit, no thread that does not end
