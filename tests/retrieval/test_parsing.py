"""Each kind is known by its content and read; what cannot be read says why, and what to do."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pypdf
import pypdf._page as pypdf_page
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import ParseFailed
from retrieval.parsers import assembly
from retrieval.parsing import parse
from retrieval.passage import Document
from tests.retrieval import made_files as make

Read = Callable[..., Document]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(content: bytes | str, filename: str = "upload") -> Document:
        path = tmp_path / "content"  # as the store keeps it: without a suffix
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return parse(path, filename)

    return read


def test_pdf_has_pages(read: Read) -> None:
    document = read(make.pdf("The first page.", "", "The third page."))
    assert document == Document(
        text="The first page.\n\nThe third page.", kind="pdf", pages=((0, 1), (17, 3)), headings=()
    )
    assert document.text[17:] == "The third page."


def test_pdf_words_that_were_drawn_in_two_strokes_stay_whole(read: Read) -> None:
    # "a a a" and "tion" touch: five glyphs of Helvetica 12 and two spaces widened by 6 points
    width = (3 * 556 + 278 * 2) * 12 / 1000 + 2 * 6
    stream = f"BT /F1 12 Tf 6 Tw 72 720 Td (a a a) Tj {width:.3f} 0 Td (tion) Tj ET"
    assert read(make.pdf_of_streams(stream)).text == "a a ation"


def test_pdf_hyphens_at_line_ends(read: Read) -> None:
    lines = "a docu-\nment of 2019-\n2020 by Anglo-\nSaxons, well-known,\nand well-\nknown; disse-\nme"
    text = read(make.pdf(lines)).text
    assert "a document of" in text
    assert "2019-\n2020 by Anglo-Saxons, well-known,\nand well-known; disse-me" in text


def test_pdf_with_an_empty_password_is_read(read: Read) -> None:
    assert read(make.encrypted_pdf("Readable", password="")).text == "Readable"


def test_docx_has_headings(read: Read) -> None:
    document = read(make.docx((1, "Rent"), "Due on the first.", (2, "Late"), "A fee of 5 %."), "lease.pdf")
    assert document.kind == "docx"
    assert document.text == "# Rent\n\nDue on the first.\n\n## Late\n\nA fee of 5 %."
    assert document.headings == ((0, ("Rent",)), (27, ("Rent", "Late")))


def test_pptx_slides_are_pages(read: Read) -> None:
    document = read(make.pptx(("One", "first"), ("Two", "<!-- Slide number: 9 -->"), ("Three", "third")))
    assert document.kind == "pptx"
    assert [page for _, page in document.pages] == [1, 2, 3]
    assert [document.text[start:].split("\n")[0] for start, _ in document.pages] == ["# One", "# Two", "# Three"]
    assert document.headings[-1][1] == ("Three",)


def test_xlsx_rows_carry_the_names_of_their_columns(read: Read) -> None:
    rows = [["City", "People", None], ["Recife", 1_488_920, None], [None, None, None], ["Natal", None, 2.5]]
    document = read(make.xlsx({"Cities": rows, "Empty": [], "Numbers": [[1, 2], [3, 4]]}))
    assert document.kind == "xlsx"
    assert document.text == (
        "## Cities\n\nCity: Recife\nPeople: 1488920\n\nCity: Natal\n2.5\n\n## Numbers\n\n1, 2\n\n3, 4"
    )
    assert document.headings == ((0, ("Cities",)), (document.text.index("## Num"), ("Numbers",)))


def test_epub_is_read_in_order(read: Read) -> None:
    document = read(make.epub("A Book", "<h1>One</h1><p>first</p>", "<h1>Two</h1><p>second</p>"))
    assert document.kind == "epub"
    assert document.text == "**Title:** A Book\n\n# One\n\nfirst\n\n# Two\n\nsecond"


def test_html_is_text_without_scripts_and_addresses(read: Read) -> None:
    page = (
        "<!-- made by hand --><html><head><title>Rates</title><style>p{}</style></head><body><h2>Now</h2>"
        '<p>See <a href="https://example.org/very/long">the list</a><img src="x.png" alt="A chart"></p>'
        "<script>alert(1)</script></body></html>"
    )
    document = read(page, "page.txt")
    assert document.kind == "html"
    assert document.text == "# Rates\n\n## Now\n\nSee the listA chart"
    assert document.headings == ((0, ("Rates",)), (9, ("Rates", "Now")))


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [("<html><meta charset='windows-1251'>", "cp1251"), ("<html>", "utf-16"), ("<html>", "utf-8-sig")],
)
def test_html_in_its_encoding(read: Read, declaration: str, encoding: str) -> None:
    assert read(f"{declaration}<p>Привет".encode(encoding)).text == "Привет"


def test_deep_html_is_still_read(read: Read) -> None:
    with pytest.warns(UserWarning, match="too deeply nested"):
        assert read("<html>" + "<div>" * 5000 + "deep").text == "deep"


def test_markdown_headings(read: Read) -> None:
    text = "intro\n\n# A *b* [c](d) #\n\n```\n# no\n```\n\nTitle\n-----\n\n### Deep\n\n#no\n\n| a |\n---\n\n# Next\n"
    document = read(text, "notes.MD")
    assert document.kind == "markdown"
    assert [path for _, path in document.headings] == [
        ("A b c",),
        ("A b c", "Title"),
        ("A b c", "Title", "Deep"),
        ("Next",),
    ]
    assert [document.text[start:].split("\n")[0] for start, _ in document.headings] == [
        "# A *b* [c](d) #",
        "Title",
        "### Deep",
        "# Next",
    ]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("name,age\nAna,30\nRui,\n", "name: Ana\nage: 30\n\nname: Rui"),
        ("name;note\nAna;a, b\nRui;c, d\n", "name: Ana\nnote: a, b\n\nname: Rui\nnote: c, d"),
        ("a\tb\n1\t2\n", "a: 1\nb: 2"),
        ("1,2\n3,4\n", "1, 2\n\n3, 4"),
        ('q,a\n"two\nlines","say ""hi"""\n', 'q: two\nlines\na: say "hi"'),
        ("only,names\n", "only, names"),
        ("a,b\n1,2,3\n", "a: 1\nb: 2\n3"),
        ("x" * 200_000 + ",b\n1,2\n", "x" * 200_000 + ": 1\nb: 2"),
    ],
)
def test_csv(read: Read, content: str, lines: str) -> None:
    document = read(content, "table.csv")
    assert (document.kind, document.text) == ("csv", lines)


def test_json_says_where_each_value_stands(read: Read) -> None:
    value = {"name": "Ana", "pets": [{"kind": "cat"}, {"kind": "dog", "tags": ["a", 1, True]}], "none": None}
    document = read(json.dumps(value, indent=1), "x.txt")
    assert document.kind == "json"
    assert document.text == "name: Ana\n\npets[0].kind: cat\npets[1].kind: dog\npets[1].tags: a, 1, true"


def test_json_lines(read: Read) -> None:
    document = read('{"q": "a\u2028b"}\n\n{"q": "c"}\n')
    assert (document.kind, document.text) == ("jsonl", "q: a\nb\n\nq: c")


def test_a_broken_line_of_json_is_named(read: Read) -> None:
    lines = ['{"q": 1}'] * 30
    with pytest.raises(ParseFailed, match="line 26 of the file") as failed:
        read("\n".join([*lines[:25], '{"q"', *lines[25:]]))
    assert failed.value.code == "invalid_file"


def test_notebook(read: Read) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"text": "noise"}]},
    ]
    document = read(json.dumps({"cells": cells, "nbformat": 4}), "a.ipynb")
    assert (document.kind, document.text) == ("notebook", "# Title\ntext\n\n```\nprint(1)\n```")


def test_code_keeps_its_indents(read: Read) -> None:
    document = read("def f():\n    return  1\n\n\n\n\n\nx = 2", "a.py")
    assert (document.kind, document.text) == ("code", "def f():\n    return  1\n\n\nx = 2")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("# Title\n\nSome *text* here.\n\n- one\n- two\n\n```python\nprint(1)\n```\n" * 4, "markdown"),
        ("import os\n\n\ndef main() -> None:\n    print(os.getcwd())\n\n\nmain()\n" * 4, "code"),
        ("It was the best of times, it was the worst of times. " * 10, "text"),
    ],
)
def test_texts_without_a_telling_name_are_known_by_their_content(read: Read, content: str, kind: str) -> None:
    assert read(content, "upload").kind == kind


PORTUGUESE = "Ele disse: “não é possível” – e saiu. A citação teve o mérito de tapar a boca de Andrade."
FRENCH = "Où est la bibliothèque ? L'été dernier, j'ai mangé des crêpes près de la forêt."
POLISH = "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw."
TURKISH = "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler."
RUSSIAN = "Все люди рождаются свободными и равными в своем достоинстве и правах."
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
CHINESE = "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *[(PORTUGUESE, encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252")],
        *[(FRENCH, encoding) for encoding in ("latin-1", "cp1252", "utf-16-be")],
        *[(POLISH, encoding) for encoding in ("cp1250", "iso8859-2")],
        *[(RUSSIAN, encoding) for encoding in ("cp1251", "koi8-r", "utf-16-le", "utf-32-be")],
        *[(JAPANESE, encoding) for encoding in ("shift_jis", "iso2022_jp", "utf-16")],
        (TURKISH, "cp1254"),
        (CHINESE, "gb18030"),
    ],
)
def test_text_in_any_encoding(read: Read, text: str, encoding: str) -> None:
    assert read(text.encode(encoding), "a.txt").text == text


def test_text_cut_within_its_last_character(read: Read) -> None:
    assert read("maçã".encode()[:-1], "a.txt").text == "maç"


@given(st.text(st.characters(codec=None), min_size=1))
def test_what_is_stored_is_clean(text: str) -> None:
    from retrieval.parsers.cleaning import clean

    cleaned = clean(text)
    cleaned.encode()  # no lone surrogate
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not any(unicodedata.category(c) == "Cc" for c in cleaned if c not in "\n\t")
    assert "\n\n\n\n" not in cleaned
    assert clean(cleaned) == cleaned


def test_cleaning() -> None:
    from retrieval.parsers.cleaning import clean

    assert clean("e\u0301ﬁn\u00ad al\0\u202e\r\nx\u00a0y  \t  z  \n") == "éfin al\nx y  z\n"


def test_cleaning_takes_linear_time_on_white_space() -> None:
    from retrieval.parsers.cleaning import clean

    assert clean(" " * 2_000_000 + "a" + " \t" * 1_000_000 + "b" + "\n" * 1_000_000) == " " * 32 + "a  b\n\n\n"


ENTITY_BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;">]><x>&b;</x>'

REFUSED: dict[str, tuple[bytes, str, str, str]] = {
    "empty": (b"", "a.pdf", "invalid_file", "the file is empty"),
    "blank": (b" \n\t\xef\xbb\xbf", "a.txt", "invalid_file", "white space only"),
    "blank with a mark": (b"\xff\xfe \0\n\0", "a.txt", "invalid_file", "white space only"),
    "encrypted pdf": (make.encrypted_pdf("x", password="secret"), "a.pdf", "invalid_file", "remove its password"),
    "scanned pdf": (make.pdf("", ""), "a.pdf", "invalid_file", r"none of the PDF's pages \(2\) has any text.*OCR"),
    "cut pdf": (make.pdf("text")[:60], "a.pdf", "invalid_file", "damaged"),
    "cut docx": (make.docx("text")[:-200], "a.docx", "invalid_file", "cut off or damaged"),
    "docx without its parts": (
        make.zipped({"[Content_Types].xml": "<Types/>", "word/x.xml": "<x/>"}),
        "a.docx",
        "invalid_file",
        "looks like DOCX, but is damaged",
    ),
    "entities": (make.docx(document=ENTITY_BOMB), "a.docx", "invalid_file", "XML entities in 'word/document.xml'"),
    "entities in utf-16": (
        make.zipped({"[Content_Types].xml": "<T/>", "xl/a.xml": ENTITY_BOMB.encode("utf-16")}),
        "a.xlsx",
        "invalid_file",
        "XML entities",
    ),
    "zip bomb": (
        make.zipped({"[Content_Types].xml": "<T/>", "word/document.xml": bytes(60_000_000)}),
        "a.docx",
        "invalid_file",
        "would unfold to 60,000,004 bytes",
    ),
    "archive": (make.zipped({"a.txt": "a"}), "a.zip", "unsupported_file", "unpack it"),
    "opendocument": (
        make.zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "<x/>"}),
        "a.odt",
        "unsupported_file",
        "save it as DOCX",
    ),
    "old word": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000) + "WordDocument".encode("utf-16-le"),
        "a.doc",
        "unsupported_file",
        "save it as DOCX",
    ),
    "encrypted docx": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000) + "EncryptedPackage".encode("utf-16-le"),
        "a.docx",
        "invalid_file",
        "remove its password",
    ),
    "rtf": (rb"{\rtf1 hello}", "a.txt", "unsupported_file", "RTF"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a.txt", "unsupported_file", "OCR"),
    "sound": (b"RIFF\0\0\0\0WAVEfmt ", "a.txt", "unsupported_file", "transcribe"),
    "binary": (bytes(range(256)) * 20, "a.txt", "unsupported_file", "neither a text nor a document that we read: PDF"),
    "deep json": (b"[" * 200_000, "a.json", "invalid_file", "nested too deeply"),
    "deep enough json": (b"[" * 500 + b"1" + b"]" * 500, "a.json", "invalid_file", "nested more than 100 deep"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_says_why(read: Read, name: str) -> None:
    content, filename, code, sentence = REFUSED[name]
    with pytest.raises(ParseFailed, match=sentence) as failed:
        read(content, filename)
    assert failed.value.code == code


def test_a_wide_table_does_not_unfold_without_end(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "MAX_CHARACTERS", 100_000)
    rows = ["c" * 3_000 + ",b", *["1,2"] * 1_000]  # the name of each column stands in each row
    with pytest.raises(ParseFailed, match="more than 100,000 characters"):
        read("\n".join(rows), "a.csv")


def test_pdf_spacing_needs_mending(read: Read) -> None:
    """When pypdf counts word spacing by itself, this fails, and `pdf_spacing` may go."""
    from pypdf._text_extraction._text_extractor import TextExtraction

    read(make.pdf("x"))  # the mend is in
    width = (3 * 556 + 278 * 2) * 12 / 1000 + 2 * 6
    stream = f"BT /F1 12 Tf 6 Tw 72 720 Td (a a a) Tj {width:.3f} 0 Td (tion) Tj ET"
    mended = pypdf_page.TextExtraction
    assert issubclass(mended, TextExtraction)
    page = pypdf.PdfReader(io.BytesIO(make.pdf_of_streams(stream))).pages[0]
    assert page.extract_text() == "a a ation"
    pypdf_page.TextExtraction = TextExtraction
    try:
        assert page.extract_text() == "a a a tion"
    finally:
        pypdf_page.TextExtraction = mended
