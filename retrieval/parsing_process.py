"""The process that reads files for `retrieval.parsing_apart`: a request per line in, an answer with its length out.

    python -m retrieval.parsing_process PARENT MEMORY_BYTES

It limits itself before it reads anything: address space, processor time per file, small files only, no core dumps, and
it ends with its parent. Requests and answers are JSON, so that nothing it says can be more than data.
"""

from __future__ import annotations

import ctypes
import json
import logging
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from retrieval.errors import ParseFailed
from retrieval.parsing import parse
from retrieval.parsing_apart import OUT_OF_MEMORY

PR_SET_PDEATHSIG = 1
OPEN_FILES = 256
FILE_BYTES = 100_000_000  # py3langid unpacks its model into a temporary file


def main() -> None:
    """Answer requests until standard input ends."""
    parent, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    _end_with(parent)
    answers = _own_output()
    _limit(memory_bytes)
    logging.disable()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_processor_time(request["seconds"])
        try:
            answer = json.dumps(_answer(Path(request["path"]), request["filename"])).encode()
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # whatever is half done is not worth unwinding
        answers.write(len(answer).to_bytes(8) + answer)
        answers.flush()


def _answer(path: Path, filename: str) -> dict[str, Any]:
    try:
        document = parse(path, filename)
    except ParseFailed as failed:
        return {"failed": [failed.code, failed.message]}
    except OSError as error:
        return {"failed": ["server_error", f"the file's bytes cannot be read: {error.strerror}"]}
    return {"text": document.text, "kind": document.kind, "pages": document.pages, "headings": document.headings}


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it was gone before the call
        os._exit(1)


def _own_output() -> BinaryIO:
    """Standard output, for answers only: what a library prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _limit_processor_time(seconds: float) -> None:
    """Of this file: beyond what the process has used already. Several threads may each use the time that passes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds * (os.cpu_count() or 1)) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or soft <= hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
