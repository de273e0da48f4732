"""Keeps child processes running, and leaves none behind.

A child leads its own process group. When it ends, whatever it started is killed, and it is started anew after a pause
that doubles while it keeps failing. SIGTERM and SIGINT are passed on; who has not ended in time, or at the second
signal, is killed. Orphans come to this process (a subreaper), so also a process that left its group is found.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

from server import process_tree

log = logging.getLogger("manyhats.supervisor")

EXIT_CONFIG = 78  # sysexits' EX_CONFIG: a child that ends so says that starting it again cannot help


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process to keep running."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)  # over this process's own
    wait_ready: Callable[[threading.Event], bool] = lambda stopped: True
    """Called in a thread once per start; True when the child works, False when the event was set before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the supervisor waits for what, in seconds; and how often it tries."""

    first_pause: float = 0.5
    longest_pause: float = 30.0
    healthy_after: float = 60.0  # ready for so long: the next failure counts as the first
    drain: float = 30.0  # from SIGTERM to SIGKILL
    gone: float = 20.0  # for killed processes to disappear
    first_starts: int = 5  # failures before ever being ready that end the server

    def pause(self, failures: int) -> float:
        """Seconds before the start that follows so many failures in a row."""
        return min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))


@dataclass(slots=True)
class _State:
    """One child, over all its starts."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    descriptor: int = -1  # becomes readable when the process ends
    start_at: float | None = 0.0  # monotonic time of the next start; None while it runs
    started_at: float = 0.0
    ready_at: float | None = None
    was_ready: bool = False
    failures: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


class Supervisor:
    """Runs children until told to stop. One per process, and in its main thread."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        patience: Patience | None = None,
        on_ready: Callable[[Child, float], None] = lambda child, seconds: None,
    ) -> None:
        """`on_ready` is called in a thread, each time that a child has become ready, with the seconds that it took."""
        self._patience = patience or Patience()
        self._on_ready = on_ready
        self._states = [_State(child) for child in children]
        self._stop_signals = 0
        self._kill_at: float | None = None
        self._exit_status = 0
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)

    def run(self) -> int:
        """Returns the exit status when all is stopped: 0 when asked to stop, 1 when a child cannot be started."""
        process_tree.adopt_orphans()
        before = {number: signal.signal(number, self._on_stop) for number in _stop_signals()}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only wakes the loop
        wakeup = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        try:
            while not (self._is_stopping and all(state.process is None for state in self._states)):
                self._start_due()
                self._wait()
                self._take_note_of_ends()
                self._stop_if_asked()
        finally:
            for state in self._states:
                self._bury(state)
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._exit_status

    @property
    def _is_stopping(self) -> bool:
        return self._stop_signals > 0 or self._exit_status != 0

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1

    def _start_due(self) -> None:
        if self._is_stopping:
            return
        now = time.monotonic()
        for state in self._states:
            if state.start_at is not None and state.start_at <= now:
                self._start(state)

    def _start(self, state: _State) -> None:
        child = state.child
        state.start_at, state.ready_at, state.started_at = None, None, time.monotonic()
        state.process = subprocess.Popen(  # noqa: S603  # the command is the server's own, and no shell reads it
            child.argv,
            env={**os.environ, **child.env},
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        state.descriptor = os.pidfd_open(state.process.pid)
        state.ended = threading.Event()
        log.info("started %s: process %d", child.name, state.process.pid)
        threading.Thread(target=self._await_ready, args=(state, state.ended), name="ready", daemon=True).start()

    def _await_ready(self, state: _State, ended: threading.Event) -> None:
        if not state.child.wait_ready(ended) or ended.is_set():
            return
        now = time.monotonic()
        state.ready_at, state.was_ready = now, True
        self._on_ready(state.child, now - state.started_at)

    def _wait(self) -> None:
        """Until a child ends, a signal comes, or something is due."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        for state in self._states:
            if state.process:
                poll.register(state.descriptor, select.POLLIN)
        due = [state.start_at for state in self._states if state.start_at is not None and not self._is_stopping]
        if self._kill_at is not None:
            due.append(self._kill_at)
        poll.poll(max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None)
        with suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass

    def _take_note_of_ends(self) -> None:
        for state in self._states:
            if state.process and _has_ended(state.process.pid):
                self._on_end(state)
        self._sweep()

    def _on_end(self, state: _State) -> None:
        now = time.monotonic()
        status = self._bury(state)
        if self._is_stopping:
            return
        name = state.child.name
        if state.ready_at is not None and now - state.ready_at >= self._patience.healthy_after:
            state.failures = 0
        state.failures += 1
        if not state.was_ready and (status == EXIT_CONFIG or state.failures >= self._patience.first_starts):
            times = f"{state.failures} times" if state.failures > 1 else "once"
            log.error("%s ended %s before it was ready, last with %s; giving up", name, times, describe(status))
            self._exit_status = 1
            return
        pause = self._patience.pause(state.failures)
        log.warning("%s ended with %s; starting it again in %.1f s", name, describe(status), pause)
        state.start_at = now + pause

    def _bury(self, state: _State) -> int:
        """Kill what is left of a child and of all that it started; returns how its leader ended."""
        if state.process is None:
            return 0
        state.ended.set()
        process_tree.kill_group(state.process.pid)  # its leader, or that one's zombie, keeps the number taken
        status = state.process.wait()
        os.close(state.descriptor)
        state.process, state.descriptor = None, -1
        self._sweep()
        return status

    def _sweep(self) -> None:
        """Kill and reap orphans: children of this process that it did not start. Repeats while new ones turn up."""
        known = {state.process.pid for state in self._states if state.process}
        deadline = time.monotonic() + self._patience.gone
        while time.monotonic() < deadline:
            orphans = [process for process in process_tree.children(os.getpid()) if process not in known]
            if not orphans:
                return
            left = process_tree.kill_all(process_tree.descendants(orphans), patience_seconds=self._patience.gone)
            if left:
                log.error("killed, and still there after %g s: processes %s", self._patience.gone, left)
            for process in orphans:
                process_tree.reap(process)

    def _stop_if_asked(self) -> None:
        if not self._is_stopping:
            return
        now = time.monotonic()
        if self._kill_at is None:
            self._kill_at = now + self._patience.drain
            for state in self._states:
                if state.process:
                    log.info("stopping %s", state.child.name)
                    state.process.terminate()
        if self._stop_signals > 1 or now >= self._kill_at:
            for state in self._states:
                if state.process:
                    log.warning("killing %s", state.child.name)
                    self._bury(state)


def _stop_signals() -> list[signal.Signals]:
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup, a closed terminal shall not stop the server
        numbers.append(signal.SIGHUP)
    return numbers


def describe(status: int) -> str:
    """An exit status in words, for example `signal SIGKILL`."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def _has_ended(process: int) -> bool:
    """Whether our child is a zombie; it stays one, so that its group's number stays its own."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
