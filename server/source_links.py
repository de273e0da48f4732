"""Where a client finds what a citation names: the file's own address, else its content on this server."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, urlsplit

from retrieval.passage import Passage
from server.settings import Settings
from server.source import Source

Link = Callable[[Source], str]


def source_links(settings: Settings, request_base: str) -> Link:
    """What makes a source's address; `request_base` is the server's as this request's client wrote it.

    The file attribute `url` where it is a web address, else `/v1/files/{id}/content` under MANYHATS_PUBLIC_URL or the
    request's base, at the passage's page.
    """
    base = (settings.public_url or request_base).rstrip("/")
    return lambda source: _own_address(source.hit.passage) or _content_address(source.hit.passage, base)


def _own_address(passage: Passage) -> str | None:
    given = passage.attributes.get("url")
    if not isinstance(given, str) or any(character.isspace() or not character.isprintable() for character in given):
        return None
    try:
        parts = urlsplit(given)
    except ValueError:
        return None
    return given if parts.scheme in ("http", "https") and parts.hostname else None


def _content_address(passage: Passage, base: str) -> str:
    address = f"{base}/v1/files/{quote(passage.file_id, safe='')}/content"
    return address if passage.page is None else f"{address}#page={passage.page}"
