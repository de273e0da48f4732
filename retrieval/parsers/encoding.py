"""From bytes to characters, whatever wrote them."""

from __future__ import annotations

import codecs
import re
from collections import Counter

from retrieval.language import likelihood

SAMPLE_BYTES = 65_536  # what the guess is made from
_BYTE_ORDER_MARKS = (  # UTF-32's first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Code pages that differ in their accented letters only, the commonest first, and who writes in them
_WESTERN = frozenset(("ca", "da", "de", "en", "es", "eu", "fi", "fr", "id", "it", "nl", "no", "pt", "sv", "sw", "tl"))
_CENTRAL = frozenset(("cs", "hr", "hu", "pl", "ro", "sk", "sl", "sq"))
_LATIN_PAGES = (
    ("cp1252", _WESTERN),
    ("iso8859-15", _WESTERN),
    ("cp1250", _CENTRAL),
    ("iso8859-2", _CENTRAL),
    ("cp1254", frozenset({"tr"})),
    ("cp1257", frozenset({"et", "lt", "lv"})),
)
_LATIN = re.compile(r"latin_1|cp125[0247]$|iso8859_(?:1|2|3|4|9|10|13|14|15|16)$")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_WITHIN_WORDS = re.compile(r"(?<=[^\W\d_])[^\w\s\x00-\x7f\u2010-\u2019](?=[^\W\d_])|[\x80-\x9f]")  # "gę¶l±"
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\v\f\r\x1b"})
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:-]{2,40})", re.IGNORECASE)


def decoded(data: bytes) -> str | None:
    """The characters of a text in any encoding; None where the bytes are no text.

    A byte order mark decides, then UTF-8 where every byte fits, then UTF-16 and UTF-32 by their zeros, then what the
    text itself declares (HTML, XML), then charset-normalizer's guess.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if b"\0" in data:
        wide = _wide(data[:SAMPLE_BYTES])
        return None if wide is None else data.decode(wide, errors="replace")
    if _is_binary(data):
        return None
    if b"\x1b$" in data and (japanese := _strictly(data, "iso2022_jp")) is not None:  # seven bits: UTF-8 would fit too
        return japanese
    try:
        return data.decode()
    except UnicodeDecodeError as wrong:
        if wrong.end == len(data) and wrong.start >= len(data) - 3 and wrong.start:  # cut within its last character
            return data[: wrong.start].decode()
    return _declared(data) or _guessed(data)


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: in a script of its own, nearly all characters have the same high byte or two."""
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        whole = sample[: len(sample) // width * width]
        high = whole[width - 1 :: width] if encoding.endswith("le") else whole[::width]
        if sum(count for _, count in Counter(high).most_common(2)) < 0.7 * len(high):
            continue
        text = whole.decode(encoding, errors="replace")
        if text.count("\ufffd") <= 1 and not _strange(text):  # the sample may end within a pair
            return encoding
    return None


def _strange(text: str) -> bool:
    odd = sum(1 for character in text if not character.isprintable() and character not in "\t\n\r\f\v\ufeff\u00ad")
    return odd > 0.02 * len(text)


def _is_binary(data: bytes) -> bool:
    sample = data[:SAMPLE_BYTES]
    return len(sample) - len(sample.translate(None, _CONTROLS)) > 0.01 * len(sample)


def _declared(data: bytes) -> str | None:
    head = data[:2048]
    match = _META_CHARSET.search(head) or _XML_ENCODING.match(head.lstrip())
    if match is None:
        return None
    return _strictly(data, match[1].decode())


def _strictly(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (LookupError, UnicodeDecodeError):
        return None


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes

    sample = data[:SAMPLE_BYTES]
    if len(data) > SAMPLE_BYTES:  # not within a character of several bytes
        sample = sample[: max(sample.rfind(b"\n"), sample.rfind(b" ")) + 1] or sample
    guess = from_bytes(sample).best()
    encoding = "cp1252" if guess is None else guess.encoding
    if _LATIN.match(encoding):
        encoding = _latin(sample) or encoding
    return data.decode(encoding, errors="replace")


def _latin(sample: bytes) -> str | None:
    """Which of the Latin code pages: the one whose characters make the text most plainly one of its languages.

    In one or two sentences, charset-normalizer takes Portuguese and French for Windows-1250 ("năo" for "não").
    """
    best, most = None, 0.5
    for encoding, languages in _LATIN_PAGES:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        if len(_WITHIN_WORDS.findall(text)) > 0.05 * len(_NOT_ASCII.findall(text)):
            continue
        language, probability = likelihood(text)
        if language in languages and probability > most + 0.005:  # equal ones are decided by the order of the pages
            best, most = encoding, probability
    return best
