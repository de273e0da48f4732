"""Where Milvus is, as MANYHATS_VECTOR_URL says it.

    milvus://host:19530/database      a cluster; https://… with TLS
    /path/vectors.db                  Milvus Lite, of one process: for development and tests

`?index=` chooses how Milvus searches: HNSW (a cluster's, unless named), DISKANN, AUTOINDEX, or FLAT, which compares all
and is Milvus Lite's.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

INDEXES = ("HNSW", "DISKANN", "AUTOINDEX", "FLAT")


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL or path means."""

    uri: str  # as pymilvus has it
    database: str
    index: str  # of INDEXES


def parse_address(url: str) -> Address:
    """Raises ValueError for anything that is no address of ours; its message repeats no password."""
    if "://" not in url:
        path, _, query = url.partition("?")
        if not path.endswith(".db"):
            raise ValueError(f"{path!r} is neither milvus://HOST:PORT nor http(s)://… nor a path that ends in .db")
        return Address(path, "", _index(query, "FLAT"))
    parts = urlsplit(url)
    if parts.scheme not in ("milvus", "http", "https") or not parts.hostname:
        raise ValueError(f"an address of Milvus is milvus://HOST:PORT, http(s)://… or a path, not {parts.scheme}://…")
    if "@" in parts.netloc:
        raise ValueError("a user and password belong into MANYHATS_VECTOR_TOKEN, as user:password")
    scheme = "https" if parts.scheme == "https" else "http"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    uri = f"{scheme}://{host}:{parts.port or (443 if scheme == 'https' else 19530)}"
    return Address(uri, parts.path.strip("/"), _index(parts.query, "HNSW"))


def _index(query: str, usual: str) -> str:
    fields = parse_qs(query, keep_blank_values=True)
    unknown = sorted(set(fields) - {"index"})
    if unknown:
        raise ValueError(f"an address of Milvus takes ?index=…, and not {', '.join(unknown)}")
    (index,) = fields.get("index", [usual])[-1:]
    if index.upper() not in INDEXES:
        raise ValueError(f"no index {index!r}; known: {', '.join(INDEXES)}")
    return index.upper()
