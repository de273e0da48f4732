"""Real files from other projects' tests: each becomes a document or says why not, and none hangs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from retrieval.errors import ParseFailed
from retrieval.parsing import parse_apart
from retrieval.passage import Document
from tests.retrieval.made_files import DOCUMENTS

FOLDER = Path(__file__).resolve().parents[2] / DOCUMENTS
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())

pytestmark = pytest.mark.skipif(
    not FILES, reason=f"{DOCUMENTS} is not here: real files, which the project does not ship"
)

ENCRYPTED = "remove its password"
FAILURES = {  # file → code and words of the sentence; all others are read
    "Test-PDF-Files/corrupted.pdf": ("invalid_file", "damaged"),
    "Test-PDF-Files/encrypted.pdf": ("invalid_file", ENCRYPTED),
    "markitdown/MEDRPT-2024-PAT-3847_medical_report_scan.pdf": ("invalid_file", "OCR"),
    "markitdown/test.xls": ("unsupported_file", "save it as XLSX"),
    "markitdown/test_outlook_msg.msg": ("unsupported_file", "Outlook"),
    "pdfplumber/empty.pdf": ("invalid_file", "empty"),
    "pdfplumber/password-example.pdf": ("invalid_file", ENCRYPTED),
    "pypdf/encrypted_doc_no_id.pdf": ("invalid_file", "OCR"),  # opens with the empty password; pictures only
    "pypdf/r2-user-password.pdf": ("invalid_file", ENCRYPTED),
    "pypdf/r3-user-password.pdf": ("invalid_file", ENCRYPTED),
    "pypdf/r4-aes-user-password.pdf": ("invalid_file", ENCRYPTED),
    "pypdf/r4-user-password.pdf": ("invalid_file", ENCRYPTED),
    "pypdf/r6-both-passwords.pdf": ("invalid_file", ENCRYPTED),
    "sample-files/libreoffice-writer-password.pdf": ("invalid_file", ENCRYPTED),
    "tika/testEXCEL_protected_passtika.xlsx": ("invalid_file", ENCRYPTED),
    "tika/testODTEmbedded.odt": ("unsupported_file", "OpenDocument"),
    "tika/testODTEmbeddedImageLink.odt": ("unsupported_file", "OpenDocument"),
    "tika/testODTEncrypted.odt": ("unsupported_file", "OpenDocument"),
    "tika/testODTMacro.odt": ("unsupported_file", "OpenDocument"),
    "tika/testODTNoMeta.odt": ("unsupported_file", "OpenDocument"),
    "tika/testODTStyles2.odt": ("unsupported_file", "OpenDocument"),
    "tika/testODTStyles3.odt": ("unsupported_file", "OpenDocument"),
    "tika/testODT_svgTitleInStyledSpan.odt": ("unsupported_file", "OpenDocument"),
    "tika/testPPT_protected_passtika.pptx": ("invalid_file", ENCRYPTED),
    "tika/testRTF.rtf": ("unsupported_file", "RTF"),
    "tika/testWORD_protected_passtika.docx": ("invalid_file", ENCRYPTED),
    "tika/testWORD_truncated.docx": ("invalid_file", "cut off or damaged"),
}
CONTENTS = {  # file → kind and words of the text
    "markitdown/equations.docx": ("docx", r"\frac{m"),
    "markitdown/test.epub": ("epub", "Test EPUB Document"),
    "markitdown/test.json": ("json", "key1: string_value"),
    "markitdown/test.pptx": ("pptx", "AutoGen"),
    "markitdown/test.xlsx": ("xlsx", "Alpha: 89"),
    "markitdown/test_blog.html": ("html", "Does Model and Inference Parameter Matter"),
    "markitdown/test_mskanji.csv": ("csv", "名前: 佐藤太郎\n年齢: 30"),
    "markitdown/test_notebook.ipynb": ("notebook", 'print("markitdown")'),
    "markitdown/test_rss.xml": ("code", "<rss"),
    "pypdf/multilang.pdf": ("pdf", "Привет, "),
    "pypdf/r6-owner-password.pdf": ("pdf", "pdf encryption test"),
    "sample-files/habibi-rotated.pdf": ("pdf", "habibi"),
    "tika/testHTML_charset_utf16le.html": ("html", "This is a sample text"),
    "tika/testODTnotaZipFile.odt": ("text", "This is not a zip file!"),
    "tika/testPDF_protected.pdf": ("pdf", "RETHINKING THE FINANCIAL NETWORK"),
}


def shown(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def read(path: Path) -> Document:
    return parse_apart(path, path.name, seconds=60, memory_bytes=2_000_000_000)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_every_file_is_read_or_says_why_not(path: Path) -> None:
    if shown(path) in FAILURES:
        code, sentence = FAILURES[shown(path)]
        with pytest.raises(ParseFailed, match=sentence) as failed:
            read(path)
        assert failed.value.code == code
        return
    document = read(path)
    kind, words = CONTENTS.get(shown(path), (document.kind, ""))
    assert document.kind == kind
    assert words in document.text
    assert document.text.strip()
    if kind == "pdf":
        assert document.pages


def test_the_tables_name_files_that_are_there() -> None:
    assert FAILURES.keys() | CONTENTS.keys() <= set(map(shown, FILES))


def test_a_book_s_pdf_gives_the_words_of_its_text() -> None:
    """Counted with their number: a word that comes 30 times must be found 30 times. `pytest -s` prints the figure."""
    text = FOLDER / "machado" / "contosFluminenses.txt"
    document = read(text.with_suffix(".pdf"))
    expected, found = _words(text.read_text()), _words(document.text)
    share = (expected & found).total() / expected.total()
    print(
        f"\n{share:.2%} of the {expected.total():,} words of {text.name} are in its PDF ({len(document.pages)} pages)"
    )
    assert share >= 0.995  # 98.07 % without `pdf_spacing`


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))
