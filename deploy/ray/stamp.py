"""What a process is started with, as one word: Ray restarts the processes whose word has changed, and no others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from server.settings import PREFIX

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = ("server", "adapters", "retrieval", "deploy/ray", "deploy/setup")  # the last for its pins
READ_ONCE = (f"{PREFIX}API_KEYS_FILE", f"{PREFIX}ASSISTANTS_FILE")  # at a process's start


def stamp(environ: Mapping[str, str], *told: object) -> str:
    """The word for the settings, what the files say that they name, the code, and what else the process is told."""
    read = {name: _content(environ[name]) for name in READ_ONCE if environ.get(name)}
    facts = [sorted(environ.items()), sorted(read.items()), _code(), told]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _content(path: str) -> str:
    """Digest of a file; "" of one that cannot be read, which the process that needs it will say."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _code() -> str:
    hashed = hashlib.sha256()
    for path in _files():
        hashed.update(f"{path.relative_to(ROOT)}\n".encode())
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()


def _files() -> Iterator[Path]:
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
