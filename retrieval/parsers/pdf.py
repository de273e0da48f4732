"""PDF, by pypdf: pure Python, so that a damaged file raises an error instead of crashing, and free to ship."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.errors import ParseFailed
from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.parsers.hyphens import Hyphens
from retrieval.passage import Document

MAX_PAGES = 20_000


def read(content: Content) -> Document:
    """The text of each page in the order in which the file draws it; words broken at line ends are joined again.

    A file that opens with an empty password is read, as every viewer does.
    """
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of each oddity, several a page
    pages = list(_pages(content.path))
    if not any(text.strip() for _, text in pages):
        raise ParseFailed(
            "invalid_file",
            f"none of the PDF's pages ({len(pages)}) has any text: it is probably scanned; recognise its text (OCR, "
            "for example with ocrmypdf) and upload the result",
        )
    hyphens = Hyphens(text for _, text in pages)
    return assemble("pdf", ((number, hyphens.joined(text)) for number, text in pages))


def _pages(path: Path) -> Iterator[tuple[int, str]]:
    import pypdf
    from pypdf.errors import EmptyFileError

    from retrieval.parsers.pdf_spacing import heed_word_spacing

    heed_word_spacing()
    with path.open("rb") as file:
        try:
            reader = pypdf.PdfReader(file)
        except EmptyFileError as error:
            raise ParseFailed("invalid_file", "the PDF is empty: upload it again") from error
        if reader.is_encrypted and not reader.decrypt(""):
            raise ParseFailed("invalid_file", "the PDF is encrypted: remove its password and upload it again")
        count = len(reader.pages)
        if count > MAX_PAGES:
            raise ParseFailed(
                "invalid_file", f"the PDF has {count:,} pages, of at most {MAX_PAGES:,}: split it and upload the parts"
            )
        for number, page in enumerate(reader.pages, start=1):
            yield number, _text(page)


def _text(page: Any) -> str:
    return str(page.extract_text())
