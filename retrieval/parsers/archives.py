"""Zip archives: which office format one is, whether it is whole, and that it does not unfold into gigabytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from retrieval.errors import ParseFailed

MAX_UNPACKED_BYTES = 1_000_000_000
MAX_MEMBERS = 50_000
MAX_RATIO = 200  # unpacked ÷ packed, of archives above RATIO_FROM_BYTES; office files have 3 to 30
RATIO_FROM_BYTES = 50_000_000

_OFFICE = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}
_ENTITY = re.compile(rb"<\0?!\0?E\0?N\0?T\0?I\0?T\0?Y")  # also in UTF-16
_BLOCK_BYTES = 1 << 20


def office_kind(path: Path) -> str:
    """`docx`, `pptx`, `xlsx` or `epub`; ParseFailed for a damaged archive, and for any other."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _kind(archive)
    except (ParseFailed, MemoryError):
        raise
    except Exception as error:  # of zipfile, zlib, struct, … : what a damaged archive runs into
        raise ParseFailed(
            "invalid_file",
            "the file is an office document or archive that is cut off or damaged: save it again and upload that",
        ) from error


def _kind(archive: zipfile.ZipFile) -> str:
    members = archive.infolist()
    names = {member.filename for member in members}
    declared = archive.read("mimetype")[:100].decode("ascii", "replace").strip() if "mimetype" in names else ""
    if declared.startswith("application/vnd.oasis.opendocument"):
        raise ParseFailed("unsupported_file", "the file is an OpenDocument file: save it as DOCX, PPTX, XLSX or PDF")
    kind = "epub" if declared == "application/epub+zip" else None
    if "[Content_Types].xml" in names:
        kind = next((kind for folder, kind in _OFFICE.items() if any(name.startswith(folder) for name in names)), None)
    if kind is None:
        raise ParseFailed("unsupported_file", "the file is an archive: unpack it and upload the files in it")
    if any(member.flag_bits & 1 for member in members):
        raise ParseFailed("invalid_file", "the file is encrypted: remove its password and upload it again")
    _check_size(members)
    if kind != "epub":  # XHTML may declare entities, and is read by a parser that does not unfold them
        _check_entities(archive)
    return kind


def _check_size(members: list[zipfile.ZipInfo]) -> None:
    """By the sizes that the archive states; `zipfile` hands out no byte more than those."""
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    if (
        len(members) > MAX_MEMBERS
        or unpacked > MAX_UNPACKED_BYTES
        or (unpacked > RATIO_FROM_BYTES and unpacked > MAX_RATIO * packed)
    ):
        raise ParseFailed(
            "invalid_file",
            f"the file would unfold to {unpacked:,} bytes in {len(members):,} parts, from {packed:,}: it is too large, "
            "or made to exhaust memory; split the document",
        )


def _check_entities(archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        if not member.filename.lower().endswith((".xml", ".rels")):
            continue
        end = b""
        with archive.open(member) as stream:
            while block := stream.read(_BLOCK_BYTES):
                if _ENTITY.search(end + block):
                    raise ParseFailed(
                        "invalid_file",
                        f"the file declares XML entities in {member.filename!r}, which office programs never write: "
                        "open it in one, save it again and upload the new copy",
                    )
                end = block[-32:]
