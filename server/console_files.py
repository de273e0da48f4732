"""The console's files in memory, with what a browser needs to know of each, and the policy that it holds them to."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "web"
PAGE = "index.html"
MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
INLINE = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleFile:
    """One file, read once."""

    body: bytes
    gzipped: bytes
    etag: str  # weak: it stands for the file, packed or not
    media_type: str


def console_files(folder: Path = FOLDER) -> dict[str, ConsoleFile]:
    """By path inside the folder, all that a browser may ask for."""
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }


def policy(page: bytes) -> str:
    """The Content-Security-Policy (https://www.w3.org/TR/CSP3/) of the page.

    Scripts come from this server's files alone, and of inline ones only the import map by its hash: what a model or a
    document says can neither run nor load anything, not even a picture that would tell somebody that it was read.
    """
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *(digest(inline) for inline in INLINE.findall(page)))),
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types dompurify",
        )
    )


def digest(inline: bytes) -> str:
    """The one inline script or style that a policy allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline).digest()).decode()}'"


def _read(path: Path) -> ConsoleFile:
    body = path.read_bytes()
    return ConsoleFile(
        body=body,
        gzipped=gzip.compress(body, mtime=0),
        etag=f'W/"{hashlib.sha256(body).hexdigest()[:16]}"',
        media_type=MEDIA_TYPES[path.suffix],
    )


POLICY = policy((FOLDER / PAGE).read_bytes())
