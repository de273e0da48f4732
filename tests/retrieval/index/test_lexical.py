from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.changes import ChunkText
from retrieval.index import lexical
from retrieval.index.lexical import LexicalIndex
from retrieval.index.selection import Selection
from retrieval.index.words import STEMMERS


def index_of(texts: Sequence[str], language: str | None = "en", folder: Path | None = None) -> LexicalIndex:
    index = LexicalIndex(folder)
    index.change([ChunkText(i, i, text, language) for i, text in enumerate(texts)], [])
    return index


def ids(index: LexicalIndex, question: str, k: int = 10, selection: Selection | None = None) -> list[int]:
    return [int(chunk_id) for chunk_id in index.search(question, k, selection).ids]


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("en", "The tenants were notified.", "notifying a tenant"),
        ("pt", "As corporações foram notificadas.", "notificar a corporação"),
        ("de", "Die Verträge wurden gekündigt.", "Vertrag"),
        ("es", "Los contratos se firmaron.", "contrato firmado"),
        ("fr", "Les locataires paieront.", "locataire"),
        ("ru", "Договоры подписаны", "договор"),
    ],
)
def test_words_are_found_by_their_stems(language: str, text: str, question: str) -> None:
    assert ids(index_of([text, "nothing of it"], language), question) == [0]


def test_every_stemmer_that_is_named_is_there() -> None:
    for language in STEMMERS:
        assert ids(index_of(["palavra"], language), "palavra") == [0]


def test_accents_case_and_forms_of_letters_do_not_matter() -> None:
    index = index_of(["Ações da Eletrobrás", "cafe\u0301 com ﬁlme", "ＦＵＬＬ width"], None)
    assert ids(index, "acoes") == ids(index, "AÇÕES") == ids(index, "ac\u0327o\u0303es") == [0]
    assert ids(index, "café") == ids(index, "filme") == [1]
    assert ids(index, "full") == [2]


def test_a_language_that_nobody_knows_is_not_stemmed() -> None:
    index = index_of(["The tenants were notified."], None)
    assert ids(index, "tenants") == [0]
    assert ids(index, "tenant") == []


def test_scripts_without_spaces() -> None:
    index = index_of(["東京都は日本の首都です", "大阪は商業の町です", "กรุงเทพเป็นเมืองหลวง"], "ja")
    assert ids(index, "日本の首都")[0] == 0
    assert ids(index, "商業")[0] == 1
    assert ids(index, "เมืองหลวง")[0] == 2


def test_a_store_of_two_languages_is_asked_in_both() -> None:
    index = LexicalIndex(None)
    chunks = [ChunkText(0, 0, "The contracts were signed.", "en"), ChunkText(1, 1, "As corporações cresceram.", "pt")]
    index.change(chunks, [])
    assert index.languages == {"en": 1, "pt": 1}
    assert ids(index, "contract") == [0]
    assert ids(index, "corporação") == [1]


def test_a_score_is_the_share_of_the_questions_weight() -> None:
    texts = ["alpha beta", "alpha gamma", "delta epsilon", "zeta eta"]
    index = index_of(texts, None)
    found = index.search("alpha delta", 10)
    n = len(texts)
    idf = {"alpha": math.log(1 + (n - 2 + 0.5) / 2.5), "delta": math.log(1 + (n - 1 + 0.5) / 1.5)}
    saturation = 1 / (1 + 1.2)  # a word once, in a chunk of average length: tf / (tf + k₁)
    expected = {2: idf["delta"] * saturation / sum(idf.values()), 0: idf["alpha"] * saturation / sum(idf.values())}
    for chunk_id, score in zip(found.ids.tolist(), found.scores.tolist(), strict=True):
        assert score == pytest.approx(expected.get(chunk_id, expected[0]), rel=1e-4)
    repeated = index.search("alpha alpha ALPHA", 1)  # a word counts once
    assert repeated.scores[0] == pytest.approx(index.search("alpha", 1).scores[0])


def test_scores_stay_between_0_and_1() -> None:
    index = index_of(["rent " * 500, "rent", "notice " * 300 + "rent"])
    for question in ("rent", "rents", "rent notice", "rent rent rent"):
        assert ((index.search(question, 10).scores >= 0) & (index.search(question, 10).scores <= 1)).all()


def test_a_stem_and_its_word_count_once() -> None:
    texts = ["walking", "walks", "walked", "walk", "run", "runs"]
    index = index_of(texts)
    found = index.search("walking", 10)
    assert len(found.ids) == 4
    assert found.ids[0] == 0  # the word itself says more than its stem
    assert found.scores.max() <= 1.0


def test_scores_of_given_chunks_are_those_of_the_search() -> None:
    random = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    index = index_of([" ".join(random.choice(words, 12)) for _ in range(300)])
    found = index.search("w1 w2 w3 w4", 300)
    np.testing.assert_allclose(index.scores("w1 w2 w3 w4", found.ids), found.scores, atol=1e-6)
    others = np.setdiff1d(np.arange(300), found.ids)
    assert not index.scores("w1 w2 w3 w4", others).any()
    assert index.scores("w1", np.array([7_777])).tolist() == [0.0]
    assert index.scores("nowhere", found.ids).tolist() == [0.0] * len(found.ids)


def test_words_that_are_everywhere_find_too_where_nothing_else_does() -> None:
    index = index_of([f"the {i}" for i in range(50)])
    assert len(ids(index, "the", 50)) == 50
    assert len(ids(index, "the 7", 50)) == 50
    assert ids(index, "the 7", 50)[0] == 7


@pytest.mark.parametrize("most_listed", [0, 3, 10_000])
def test_filters_give_as_many_as_there_are(monkeypatch: pytest.MonkeyPatch, most_listed: int) -> None:
    monkeypatch.setattr(lexical, "MOST_LISTED", most_listed)
    index = index_of([f"the common word {i}" for i in range(400)])
    every = np.arange(400)
    for allowed in (every[:2], every[::2], every[5:], every[:0], every):
        selection = Selection(allowed, np.setdiff1d(every, allowed))
        found = ids(index, "common", 50, selection)
        assert len(found) == min(50, len(allowed))
        assert set(found) <= set(allowed.tolist())


def test_chunks_come_and_go(tmp_path: Path) -> None:
    index = index_of(["rent", "notice"], folder=tmp_path / "words")
    index.change([ChunkText(2, 2, "rent again", "en")], [0])
    assert ids(index, "rent") == [2]
    assert len(index) == 2
    assert index.numbers() == {1, 2}
    index.change([ChunkText(3, 1, "notice again", "en")], [1])  # out first, and then in
    assert ids(index, "notice") == [3]
    index.close()
    index.change([ChunkText(4, 4, "after closing", "en")], [])
    assert ids(index, "closing") == [4]
    again = LexicalIndex(tmp_path / "words")
    assert sorted(ids(again, "rent notice closing")) == [2, 3, 4]


def test_a_merge_that_fails_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def wait_merging_threads(self) -> None:
            raise ValueError("a merging thread has panicked")

    index = index_of(["the rent is due"])
    index.close()
    monkeypatch.setattr(index, "_writer", Failing())
    index.close()
    index.change([ChunkText(2, 2, "the rent was paid", "en")], ())
    assert sorted(ids(index, "rent")) == [0, 2]


def test_a_copy_is_whole_while_segments_are_merged(tmp_path: Path) -> None:
    index = index_of(["start"], folder=tmp_path / "live")
    for i in range(30):
        index.change([ChunkText(100 * i + j, i, f"word{j} batch{i}", "en") for j in range(20)], [])
        copy = tmp_path / f"copy{i}"
        copy.mkdir()
        index.copy_to(copy)
        assert len(LexicalIndex(copy)) == len(index)
    first = LexicalIndex(tmp_path / "copy0")  # still what it was
    assert len(first) == 20 + 1


def test_searching_while_chunks_come() -> None:
    index = index_of(["constant"])
    stopped = threading.Event()
    failures: list[BaseException] = []

    def search() -> None:
        try:
            while not stopped.is_set():
                assert 0 in ids(index, "constant word", 50)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(1, 40):
        index.change([ChunkText(i, i, f"word {i}", "en")], [i - 5] if i > 6 else [])
    stopped.set()
    for thread in threads:
        thread.join()
    assert failures == []


INDEX = index_of(["some words here", "and others there"])


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=200) | st.text("\"'()[]{}^~*?:\\/+-&|!<>=.ANDORNT \x00\n", max_size=80))
def test_no_text_is_syntax(question: str) -> None:
    found = INDEX.search(question, 10)
    assert len(found.ids) == len(found.scores) <= 2
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=300), st.sampled_from(["en", "pt", "ja", "xx", None]))
def test_any_text_can_be_a_chunk_and_finds_itself(text: str, language: str | None) -> None:
    index = index_of([text, "zzz"], language)
    assert len(index) == 2
    assert set(ids(index, text)) <= {0, 1}
    sound = [word for word in text.split() if word.isascii() and word.isalnum() and len(word) < 40]
    for word in sound[:3]:
        assert 0 in ids(index, word)
