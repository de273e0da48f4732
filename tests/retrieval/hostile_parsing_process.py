"""A parsing process as the product's, whose parsers also obey files that say `!sleep`, `!allocate` and the like."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path

from retrieval import parsing, parsing_process
from retrieval.passage import Document

_left_over: list[mmap.mmap] = []


def parse(path: Path, filename: str) -> Document:
    """What the file says, or its text."""
    text = path.read_text()
    if not text.startswith("!"):
        return parsing.parse(path, filename)
    order, _, number = text[1:].partition(" ")
    if order == "sleep":
        threading.Event().wait()
    if order == "spin":
        while True:
            pass
    if order == "allocate":
        bytearray(int(number))
    if order == "keep":
        try:
            _left_over.append(mmap.mmap(-1, int(number)))
        except OSError:
            raise MemoryError from None
    if order == "allocate_natively" and not ctypes.CDLL(None).malloc(ctypes.c_size_t(int(number))):
        os.abort()  # as C++ libraries do
    if order == "crash":
        ctypes.string_at(0)
    if order == "exit":
        os._exit(0)
    if order == "raise":
        raise RuntimeError("unforeseen")
    if order == "print":
        print("noise" * 100_000, flush=True)
        os.write(1, b"noise")
        sys.stderr.write("noise" * 100_000)
    if order == "fork":
        if os.fork() == 0:
            time.sleep(600)
        threading.Event().wait()
    if order == "write":
        with Path(number).open("wb") as file:
            file.truncate(1_000_000_000)
    if order == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "environment":
        return Document(text="\n".join(os.environ), kind="text")
    if order == "limits":
        return Document(text=Path("/proc/self/limits").read_text(), kind="text")
    return Document(text=str(os.getpid()), kind="text")


parsing_process.parse = parse
if __name__ == "__main__":
    parsing_process.main()
