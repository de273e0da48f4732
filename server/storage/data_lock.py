"""One server per data directory, and where it listens.

The lock is the kernel's: it goes when its holder dies, however it dies. The address stands in the locked file itself.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import TracebackType

from server.storage.errors import DataDirBusy
from server.storage.file_lock import try_lock

NAME = "lock"
PATIENCE_SECONDS = 0.5  # readers of the address hold the lock for microseconds


class DataLock:
    """Held from construction until `close` or the process's end; also a context manager."""

    def __init__(self, data_dir: Path) -> None:
        """Take the lock of a data directory, which is made, private to its user, if missing. Raises DataDirBusy."""
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(data_dir / NAME, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not try_lock(self._descriptor):
            if time.monotonic() >= deadline:
                os.close(self._descriptor)
                address = read_address(data_dir)
                where = f", listening on {address}" if address else ""
                raise DataDirBusy(
                    f"another server holds the data directory {str(data_dir)!r}{where}; "
                    "stop it, or give another MANYHATS_DATA_DIR"
                )
            time.sleep(0.01)
        os.ftruncate(self._descriptor, 0)  # the last holder's address is no longer true

    def write_address(self, url: str) -> None:
        """Say where this server listens, for `read_address` of other processes."""
        content = json.dumps({"address": url, "pid": os.getpid()}).encode()
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def close(self) -> None:
        """Let the data directory go. Closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> DataLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_address(data_dir: Path) -> str | None:
    """Where the server of a data directory listens; None when none runs, or it does not listen yet."""
    try:
        descriptor = os.open(data_dir / NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if try_lock(descriptor):
            return None
        content = os.pread(descriptor, 4096, 0)
    finally:
        os.close(descriptor)
    try:
        return str(json.loads(content)["address"])
    except ValueError:  # empty, or just being written
        return None
