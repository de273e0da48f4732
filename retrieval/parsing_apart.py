"""Reading files in a process of its own: whatever a file does, only that process suffers.

The process lives on from file to file, since starting one costs more than most files do. It is replaced after
`MAX_FILES`, and after any failure; it ends with the thread that uses it, and with this process even on `kill -9`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from retrieval.errors import ParseFailed
from retrieval.passage import Document

MAX_FILES = 500  # of one process: libraries leak
MAX_ANSWER_BYTES = 1_000_000_000
COMMAND = (sys.executable, "-P", "-B", "-W", "ignore", "-m", "retrieval.parsing_process")
# What the process sees of our environment: how to find Python and its libraries, and nothing secret.
ENVIRONMENT = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD"}
    | {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
)

_of_this_thread = threading.local()


def parse_apart(path: Path, filename: str, *, seconds: float, memory_bytes: int) -> Document:
    """As `retrieval.parsing.parse`, in another process that may take so much time and memory.

    Whatever the file does, this returns or raises ParseFailed, at the latest shortly after `seconds`. `memory_bytes`
    is of address space, of which the libraries alone take up to 500 MB. Each thread that calls this has a process.
    """
    process: ParsingProcess | None = getattr(_of_this_thread, "process", None)
    if process is None:
        process = _of_this_thread.process = ParsingProcess()
    return process.parse(path, filename, seconds=seconds, memory_bytes=memory_bytes)


class ParsingProcess:
    """One process at a time that reads files; for one thread, since the kernel ends the process with that thread."""

    def __init__(self, command: Sequence[str] = COMMAND, *, max_files: int = MAX_FILES) -> None:
        self._command = tuple(command)
        self._max_files = max_files
        self._child: _Child | None = None

    def parse(self, path: Path, filename: str, *, seconds: float, memory_bytes: int) -> Document:
        """As `parse_apart`."""
        deadline = time.monotonic() + seconds
        while True:
            child = self._ready(memory_bytes)
            used = child.files > 0
            try:
                document = child.parse(path, filename, deadline)
            except _TimeOver:
                self.close()
                raise ParseFailed("invalid_file", _time_over(seconds)) from None
            except _Died as death:
                self.close()
                if used:  # it may be what earlier files left behind: once more, in a fresh one
                    continue
                raise ParseFailed("invalid_file", _died(death, memory_bytes)) from None
            if child.files >= self._max_files:
                self.close()
            return document

    def close(self) -> None:
        """End the process, if there is one; the next file starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __del__(self) -> None:
        self.close()

    def _ready(self, memory_bytes: int) -> _Child:
        child = self._child
        if child is not None and (child.memory_bytes != memory_bytes or child.ended()):
            self.close()
            child = None
        if child is None:
            child = self._child = _Child(self._command, memory_bytes)
        return child


class _TimeOver(Exception):
    """No answer in time."""


class _Died(Exception):
    """The process ended, or had to, before it answered."""

    def __init__(self, *, of_memory: bool, how: str) -> None:
        super().__init__(how)
        self.of_memory = of_memory
        self.how = how


class _Child:
    """A running process of `retrieval.parsing_process`."""

    def __init__(self, command: tuple[str, ...], memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.files = 0  # answered
        self._process = subprocess.Popen(  # noqa: S603  # our own module, by our own interpreter
            [*command, str(os.getpid()), str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name in ENVIRONMENT},
            process_group=0,  # whatever it may have started goes with it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin.fileno()
        self._answers = self._process.stdout.fileno()

    def parse(self, path: Path, filename: str, deadline: float) -> Document:
        left = max(0.0, deadline - time.monotonic())
        request = {"path": str(path), "filename": filename[-1000:], "seconds": left}
        try:
            # A request is far smaller than a pipe holds, and the last one was answered: this does not block.
            os.write(self._requests, json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._death() from None
        length = int.from_bytes(self._read(8, deadline))
        if length > MAX_ANSWER_BYTES:
            raise _Died(of_memory=True, how=f"an answer of {length:,} bytes")
        answer = json.loads(self._read(length, deadline))
        self.files += 1
        return _document(answer)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        self._process.wait()

    def _read(self, length: int, deadline: float) -> bytearray:
        data = bytearray()
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        while len(data) < length:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise _TimeOver
            block = os.read(self._answers, min(length - len(data), 1 << 20))
            if not block:
                raise self._death()
            data += block
        return data

    def _death(self) -> Exception:
        """Why it closed its pipes: it has ended, or is about to."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return _Died(of_memory=False, how="it stopped answering")
        if code == -signal.SIGXCPU:
            return _TimeOver()
        if code == -signal.SIGKILL:  # not by us: the kernel, when the machine has no memory left
            return _Died(of_memory=True, how="it was killed")
        return _Died(of_memory=code == OUT_OF_MEMORY, how=f"exit status {code}" if code >= 0 else _signal_name(-code))


OUT_OF_MEMORY = 77  # the status with which the process ends when it could get no more


def _document(answer: dict[str, Any]) -> Document:
    if "failed" in answer:
        code, message = answer["failed"]
        raise ParseFailed(code, message)
    return Document(
        text=answer["text"],
        kind=answer["kind"],
        pages=tuple((start, page) for start, page in answer["pages"]),
        headings=tuple((start, tuple(path)) for start, path in answer["headings"]),
    )


def _time_over(seconds: float) -> str:
    return f"reading the file took longer than {seconds:g} s: split it, or save it in a simpler format"


def _died(death: _Died, memory_bytes: int) -> str:
    if death.of_memory:
        return (
            f"reading the file took more memory than allowed ({memory_bytes / 1e9:.3g} GB): split it, or save it in a "
            "simpler format"
        )
    return (
        f"the file broke the program that reads it ({death.how}): open it in the program that made it, save it again "
        "and upload the new copy"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
