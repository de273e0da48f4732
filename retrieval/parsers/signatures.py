"""Files that are no text and that we do not read, by their first bytes, each with what its owner can do."""

from __future__ import annotations

from typing import IO

from retrieval.errors import ParseFailed

_PICTURE = "a picture ({}): recognise its text (OCR) and upload that"
_SOUND = "a recording ({}): transcribe it and upload the text"
_ARCHIVE = "an archive ({}): unpack it and upload the files in it"
_DATA = "a data file ({}): export what matters as CSV or text"
_PROGRAM = "a program ({}): upload its documentation or source"

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", _PICTURE, "PNG"),
    (b"\xff\xd8\xff", _PICTURE, "JPEG"),
    (b"GIF87a", _PICTURE, "GIF"),
    (b"GIF89a", _PICTURE, "GIF"),
    (b"II*\0", _PICTURE, "TIFF"),
    (b"MM\0*", _PICTURE, "TIFF"),
    (b"ID3", _SOUND, "MP3"),
    (b"\xff\xfb", _SOUND, "MP3"),
    (b"OggS", _SOUND, "Ogg"),
    (b"fLaC", _SOUND, "FLAC"),
    (b"\x1aE\xdf\xa3", _SOUND, "Matroska"),
    (b"\x1f\x8b", _ARCHIVE, "gzip"),
    (b"BZh", _ARCHIVE, "bzip2"),
    (b"\xfd7zXZ\0", _ARCHIVE, "xz"),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE, "7z"),
    (b"Rar!\x1a\x07", _ARCHIVE, "RAR"),
    (b"\x28\xb5\x2f\xfd", _ARCHIVE, "Zstandard"),
    (b"SQLite format 3\0", _DATA, "SQLite"),
    (b"PAR1", _DATA, "Parquet"),
    (b"\x7fELF", _PROGRAM, "ELF"),
    (b"\xca\xfe\xba\xbe", _PROGRAM, "Java class"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # https://learn.microsoft.com/openspecs/windows_protocols/ms-cfb
_OLE_STREAMS = (  # names in its directory: what the streams make of it
    ("EncryptedPackage", "invalid_file", "the file is encrypted: remove its password and upload it again"),
    ("WordDocument", "unsupported_file", "the file is in Word's old format (DOC): save it as DOCX or PDF"),
    ("PowerPoint Document", "unsupported_file", "the file is in PowerPoint's old format (PPT): save it as PPTX or PDF"),
    ("Workbook", "unsupported_file", "the file is in Excel's old format (XLS): save it as XLSX or CSV"),
    ("Book", "unsupported_file", "the file is in Excel's old format (XLS): save it as XLSX or CSV"),
    ("__properties_version1.0", "unsupported_file", "the file is an Outlook message: save it as HTML or text"),
)
_OLE_SEARCH_BYTES = 64_000_000  # the directory may lie anywhere


def refuse_known_binary(head: bytes, file: IO[bytes]) -> None:
    """Raises ParseFailed where the first bytes are those of a format that is no text; returns for all else.

    `file` stands behind the head, and is read on only for Microsoft's old container, which says inside what it holds.
    """
    if head.startswith(_OLE):
        raise _ole(head + file.read(_OLE_SEARCH_BYTES))
    if head.startswith(b"{\\rtf"):
        raise ParseFailed("unsupported_file", "the file is in Rich Text Format (RTF): save it as DOCX, PDF or text")
    if head.startswith(b"%!PS"):
        raise ParseFailed("unsupported_file", "the file is PostScript: convert it to PDF")
    for signature, sentence, name in _SIGNATURES:
        if head.startswith(signature):
            raise ParseFailed("unsupported_file", f"the file is {sentence.format(name)}")
    if head[4:8] == b"ftyp":
        raise ParseFailed("unsupported_file", f"the file is {_SOUND.format('MP4')}")
    if head.startswith(b"RIFF"):
        sentence = _PICTURE.format("WebP") if head[8:12] == b"WEBP" else _SOUND.format("WAV or AVI")
        raise ParseFailed("unsupported_file", f"the file is {sentence}")


def _ole(data: bytes) -> ParseFailed:
    for name, code, sentence in _OLE_STREAMS:
        if name.encode("utf-16-le") in data:
            assert code in ("invalid_file", "unsupported_file")
            return ParseFailed("invalid_file" if code == "invalid_file" else "unsupported_file", sentence)
    return ParseFailed("unsupported_file", "the file is in an old Microsoft format: save it as DOCX, PPTX, XLSX or PDF")
