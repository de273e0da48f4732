"""Which data directory this is: what tells replicas over one database apart, also after a restart."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

NAME = "identity"
DIGITS = 16


def identity_of(data_dir: Path) -> str:
    """16 hexadecimal digits, made at the first call and the same ever after; raises OSError for a disk that refuses."""
    path = data_dir / NAME
    with suppress(FileNotFoundError):
        return _read(path)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = data_dir / f".{NAME}-{secrets.token_hex(8)}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secrets.token_hex(DIGITS // 2).encode())
        os.fsync(descriptor)
        with suppress(FileExistsError):  # another process of this directory was faster: its word stands
            os.link(new, path)
    finally:
        os.close(descriptor)
        new.unlink()
    return _read(path)


def _read(path: Path) -> str:
    text = path.read_text()
    if len(text) != DIGITS or set(text) - set("0123456789abcdef"):
        raise OSError(f"{str(path)!r} is damaged; delete it, and work that was begun here waits a minute")
    return text
