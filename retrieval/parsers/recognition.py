"""What a file is, by its content; its name only decides among texts, which look alike."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import IO

from retrieval.errors import ParseFailed
from retrieval.parsers.archives import office_kind
from retrieval.parsers.assembly import MAX_CHARACTERS
from retrieval.parsers.content import Content
from retrieval.parsers.encoding import decoded
from retrieval.parsers.signatures import refuse_known_binary

READ = "PDF, DOCX, PPTX, XLSX, HTML, EPUB, Markdown, plain text, CSV, JSON, JSON Lines, notebooks and source code"
HEAD_BYTES = 4096
MAX_TEXT_BYTES = 4 * MAX_CHARACTERS

_BY_SUFFIX = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".xht"), "html"),
    **dict.fromkeys((".txt", ".text", ".log", ".rst", ".adoc", ".org", ".tex", ".srt", ".vtt"), "text"),
}
_CODE = """
.asm .bash .bat .c .cc .cfg .clj .cpp .cs .css .cu .dart .diff .el .erl .ex .exs .f90 .fs .go .gradle .graphql .h .hpp
.hs .ini .java .jl .js .jsx .kt .less .lisp .lua .m .make .mjs .ml .nix .pas .patch .php .pl .properties .proto .ps1
.py .pyi .r .rb .rs .sass .scala .scss .sh .sql .svelte .swift .tcl .tf .toml .ts .tsx .v .vb .vhd .vue .xml .yaml
.yml .zig
"""
_CODE_SUFFIXES = frozenset(_CODE.split())


def recognised(path: Path, filename: str) -> Content:
    """The file with its kind, and decoded where it is a text.

    Raises ParseFailed where it is empty, or nothing that we read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head:
            raise ParseFailed("invalid_file", "the file is empty: upload one with content")
        if b"%PDF-" in head[:1024]:  # readers accept some bytes before it
            return Content(path=path, kind="pdf")
        if head.startswith((b"PK\3\4", b"PK\5\6")):
            return Content(path=path, kind=office_kind(path))
        refuse_known_binary(head, file)
        text = _text(head, file)
    return Content(path=path, kind=_kind_of_text(text, filename), text=text)


def _text(head: bytes, file: IO[bytes]) -> str:
    data = head + file.read(MAX_TEXT_BYTES)
    if len(data) > MAX_TEXT_BYTES:
        raise ParseFailed(
            "invalid_file", f"the file is a text of more than {MAX_TEXT_BYTES:,} bytes: split it and upload the parts"
        )
    text = decoded(data)
    if text is None:
        raise ParseFailed("unsupported_file", f"the file is neither a text nor a document that we read: {READ}")
    if not text.strip("\ufeff \t\r\n\f\v\0"):
        raise ParseFailed("invalid_file", "the file holds white space only: upload one with text")
    return text


def _kind_of_text(text: str, filename: str) -> str:
    suffix = PurePath(filename.lower()).suffix
    start = text[:HEAD_BYTES].lstrip("\ufeff \t\r\n").lower()
    if _is_html(start):
        return "html"
    if start.startswith(("{", "[")) and (kind := _kind_of_json(text)):
        return kind
    if suffix in _CODE_SUFFIXES:
        return "code"
    return _BY_SUFFIX.get(suffix) or _guessed(text)


def _is_html(start: str) -> bool:
    if start.startswith(("<!doctype html", "<html")):
        return True
    return start.startswith(("<?xml", "<!--")) and ("<html" in start or "<!doctype html" in start)


def _kind_of_json(text: str) -> str | None:
    first, _, rest = text.strip("\ufeff \t\r\n").partition("\n")
    others = [line for line in rest[:1_000_000].split("\n")[:20] if line.strip()]
    if others and _is_record(first) and all(map(_is_record, others if len(rest) <= 1_000_000 else others[:-1])):
        return "jsonl"
    if not _is_record(text.lstrip("\ufeff")):
        return None
    return "notebook" if '"nbformat"' in text and '"cells"' in text else "json"


def _is_record(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False
    except RecursionError:
        raise ParseFailed("invalid_file", "the file is JSON nested too deeply to be read: flatten it") from None


def _guessed(text: str) -> str:
    """By magika, where neither the content is plain nor the name tells; what it is unsure of is plain text."""
    from magika import Magika  # late: it brings onnxruntime

    result = Magika().identify_bytes(text[:100_000].encode(errors="replace"))
    label, group = str(result.output.label), str(result.output.group)
    if label in ("markdown", "html", "csv", "tsv"):
        return "csv" if label == "tsv" else label
    return "code" if group == "code" else "text"
