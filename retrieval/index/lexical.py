"""The lexical index of one store: BM25 by tantivy, over each chunk's words as they are and by their stems.

Words are folded to lower case without accents, so that "acoes" finds "Ações". The stemmed field holds each chunk's
stems in the chunk's own language; a question's words are stemmed in the languages that the store has. A word counts
once, by the field in which it says more. BM25's k₁ is 1.2 and b 0.75, which tantivy fixes.

Nothing of a question is syntax: it is taken apart into words here, and every string is a question.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tantivy
from numpy.typing import NDArray

from retrieval.changes import ChunkText
from retrieval.index.base import NOTHING, Found, Ids
from retrieval.index.damage import IndexDamaged, damage_told
from retrieval.index.linking import link_files
from retrieval.index.selection import Selection
from retrieval.index.words import STEMMERS, clean, idf

K1 = 1.2
MAX_WORDS = 96  # of a question: of a longer one the rarest that chunks have
MAX_READ_CHARACTERS = 20_000  # of a question
MOST_ASKED = 32  # questions that are kept taken apart
MAX_WORD_BYTES = 80
UNKNOWN = "und"  # ISO 639-2's code for it
SAME_WORD = 1.5  # a stem in up to so many times the chunks of the word itself stands for it: same nDCG, 3 × faster
FREQUENT_SHARE = 0.2  # of the chunks: words like "the" only add to what others find
MAX_STEMMERS = 3  # a question is stemmed in the store's most frequent languages
MOST_LISTED = 4_096  # attachments that a query lists; of more, hits are taken out afterwards
HEAP_BYTES = 32_000_000  # of the writer, before a segment is written
WRITER_THREADS = 1
META_FILE = "meta.json"  # which segments there are


class _Word(NamedTuple):
    """A word of a question."""

    query: tantivy.Query | None  # for any of its forms; None when no chunk has one
    n_chunks: int  # with its most frequent form
    idf: float  # the largest of its forms


_Asking = tuple[str, int, int]  # the question, how many, the identity of the selection


class _View(NamedTuple):
    """What searches see until the next change."""

    searcher: tantivy.Searcher
    languages: dict[str, int]
    one_stemmer: bool  # all chunks are stemmed, and by the same one
    asked: dict[str, _Question]  # the last few
    found: dict[_Asking, tuple[Selection | None, Found]]  # what the last few searches gave


class _Question(NamedTuple):
    """A question's words as queries, and the weight of all of them."""

    first: tantivy.Query | None  # chunks with at least one word that is not everywhere; None: no chunk has any word
    every: tantivy.Query | None  # chunks with any word at all
    words: tuple[tantivy.Query, ...]  # those that any chunk has
    weight: float


class LexicalIndex:
    """The words of one store's chunks. Any thread may search; changes take turns and are seen by the next search."""

    @damage_told()
    def __init__(self, folder: Path | None) -> None:
        """Over this folder, which is made, or goes on with what is in it; in memory without one.

        Raises OSError when the disk refuses, ValueError when the folder holds something else, and IndexDamaged.
        """
        self._schema = _schema()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._index = tantivy.Index(self._schema, path=None if folder is None else str(folder))
        self._index.register_tokenizer("words", _analyser(None))
        self._index.config_reader("manual")
        self._writer: tantivy.IndexWriter | None = None
        self._turn = threading.Lock()
        self.folder = folder
        self._look()

    def __len__(self) -> int:
        return self._view.searcher.num_docs

    @property
    def languages(self) -> dict[str, int]:
        """Chunks by language, the most frequent first; those that were removed may still count for a while."""
        return self._view.languages

    @property
    def n_removed(self) -> int:
        """Chunks that were removed and still count where it is weighed how frequent a word is."""
        return max(0, sum(self.languages.values()) - len(self))

    @damage_told()
    def numbers(self) -> set[int]:
        """Attachments that have chunks here; reads all."""
        searcher = self._view.searcher
        hits = searcher.search(tantivy.Query.all_query(), max(1, len(self)), count=False).hits
        return {int(number or 0) for number in searcher.fast_field_values("number", [address for _, address in hits])}

    @damage_told()
    def change(self, chunks: Iterable[ChunkText], removed: Iterable[int]) -> None:
        """Take out the chunks of removed attachments, and add chunks; the next search sees it.

        Costs what is new. Raises OSError when the disk refuses, or IndexDamaged; then nothing has changed.
        """
        gone = [int(number) for number in removed]
        with self._turn:
            if self._writer is None:
                self._writer = self._index.writer(HEAP_BYTES, WRITER_THREADS)
            try:
                if gone:  # by a query: deleting by a term finds nothing in fields of unsigned numbers
                    self._writer.delete_documents_by_query(tantivy.Query.term_set_query(self._schema, "number", gone))
                for chunk in chunks:
                    self._writer.add_document(_document(chunk))
                self._writer.commit()
            except BaseException:
                self._writer = None  # a writer that has failed takes nothing any more; a new one starts at the commit
                raise
            self._index.reload()
            self._look()

    @damage_told(Exception)
    def search(self, question: str, k: int, selection: Selection | None = None) -> Found:
        """The k best chunks that share a word with the question, best first.

        A score is BM25 ÷ Σ idf·(k₁+1), the share of the question's weight that the chunk covers, 0 to 1. IndexDamaged.
        The last few answers are kept until the next change: words are looked up while the question is still embedded.
        """
        view = self._view
        asking = question, k, id(selection)
        kept = view.found.get(asking)
        if kept is None:
            if len(view.found) >= MOST_ASKED:
                view.found.clear()
            kept = view.found[asking] = selection, self._search(question, k, selection, view)  # keeps the id's owner
        return kept[1]

    @damage_told(Exception)
    def scores(self, question: str, chunk_ids: Ids) -> NDArray[np.float64]:
        """The scores of these chunks, 0 for those that share no word with the question or are not there."""
        view = self._view
        searcher, asked = view.searcher, self._question(question, view)
        if asked.every is None or not len(chunk_ids):
            return np.zeros(len(chunk_ids))
        wanted = tantivy.Query.term_set_query(self._schema, "chunk", chunk_ids.tolist())
        limited = tantivy.Query.const_score_query(wanted, 0.0)
        for word in asked.words:  # one in another: all in one union would be read whole, not only at these chunks
            limited = tantivy.Query.boolean_query([(tantivy.Occur.Must, limited), (tantivy.Occur.Should, word)])
        found = _found(searcher, asked, limited, len(chunk_ids))
        by_id = dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
        return np.array([by_id.get(chunk_id, 0.0) for chunk_id in chunk_ids.tolist()])

    def _search(self, question: str, k: int, selection: Selection | None, view: _View) -> Found:
        searcher, asked = view.searcher, self._question(question, view)
        found = NOTHING
        if not k or (selection is not None and not len(selection.numbers)):
            return found
        for query in (asked.first, asked.every):  # the second seldom: when all that is left are words like "the"
            if query is not None and len(found.ids) < k:
                found = self._chosen(searcher, asked, query, k, selection)
        return found

    def _chosen(
        self, searcher: tantivy.Searcher, asked: _Question, query: tantivy.Query, k: int, selection: Selection | None
    ) -> Found:
        if selection is None or not len(selection.excluded):
            return _found(searcher, asked, query, k)
        must, must_not = (selection.numbers, tantivy.Occur.Must), (selection.excluded, tantivy.Occur.MustNot)
        fewer, which = must_not if len(selection.excluded) < len(selection.numbers) else must
        if len(fewer) > MOST_LISTED:
            return _sifted(searcher, asked, query, k, set(selection.numbers.tolist()))
        numbers = tantivy.Query.term_set_query(self._schema, "number", fewer.tolist())
        listed = (which, tantivy.Query.const_score_query(numbers, 0.0))
        return _found(searcher, asked, tantivy.Query.boolean_query([(tantivy.Occur.Must, query), listed]), k)

    def copy_to(self, folder: Path) -> None:
        """Link this moment's files into an empty folder: they are never changed, only replaced. Raises OSError."""
        assert self.folder is not None
        with self._turn:
            link_files(self.folder, folder, leader=META_FILE)

    def close(self) -> None:
        """Let the writer's threads go; changing begins anew afterwards. A merge that failed has changed nothing."""
        with self._turn, suppress(IndexDamaged), damage_told(Exception):
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.wait_merging_threads()

    def _look(self) -> None:
        searcher = self._index.searcher()
        counts = searcher.terms_with_prefix("language", "")
        languages = dict(sorted(counts, key=lambda entry: -entry[1]))
        stemmers = {STEMMERS.get(language) for language in languages}
        self._view = _View(searcher, languages, len(stemmers) == 1 and None not in stemmers, {}, {})

    def _question(self, text: str, view: _View) -> _Question:
        """A question in this store; asked for twice by a hybrid search."""
        asked = view.asked.get(text)
        if asked is None:
            asked = self._analysed(clean(text[:MAX_READ_CHARACTERS]), view)
            if len(view.asked) >= MOST_ASKED:
                view.asked.clear()
            view.asked[text] = asked
        return asked

    def _analysed(self, text: str, view: _View) -> _Question:
        stemmed_in = [language for language in view.languages if language in STEMMERS][:MAX_STEMMERS]
        words = _analyser(None).analyze(text)
        stems = [_analyser(language).analyze(text) for language in stemmed_in]
        forms = dict(zip(words, zip(*stems, strict=True) if stems else [()] * len(words), strict=True))
        n_chunks = view.searcher.num_docs
        weighed = [self._weighed(word, set(forms[word]), view, n_chunks) for word in forms]
        weighed.sort(key=lambda word: (word.query is None, -word.idf))
        return _asked(weighed[:MAX_WORDS], n_chunks)

    def _weighed(self, word: str, stems: set[str], view: _View, n_chunks: int) -> _Word:
        searcher = view.searcher
        counts = {("words", word): searcher.doc_freq("words", word)}
        counts |= {("stems", stem): searcher.doc_freq("stems", stem) for stem in stems}
        there = {form: count for form, count in counts.items() if count}
        if not there:
            return _Word(None, 0, idf(0, n_chunks))
        most = max(there.values())
        if view.one_stemmer and len(there) == 2 and most <= SAME_WORD * counts["words", word]:
            del there["words", word]  # the stem is in the same chunks and says as much
        queries = [tantivy.Query.term_query(self._schema, *form, index_option="freq") for form in there]
        query = queries[0] if len(queries) == 1 else tantivy.Query.disjunction_max_query(queries)
        return _Word(query, most, idf(min(there.values()), n_chunks))


def _asked(words: Sequence[_Word], n_chunks: int) -> _Question:
    weight = sum(word.idf for word in words) * (K1 + 1)
    there = [word for word in words if word.query is not None]
    if not there:
        return _Question(None, None, (), weight)
    every = _any_of(there)
    queries = tuple(word.query for word in there if word.query is not None)
    most = FREQUENT_SHARE * n_chunks
    frequent, rare = [word for word in there if word.n_chunks > most], [word for word in there if word.n_chunks <= most]
    if not rare or not frequent:
        return _Question(every, every, queries, weight)
    rather = tantivy.Query.boolean_query([(tantivy.Occur.Must, _any_of(rare)), *map(_may, frequent)])
    return _Question(rather, every, queries, weight)


def _any_of(words: Sequence[_Word]) -> tantivy.Query:
    return tantivy.Query.boolean_query([_may(word) for word in words])


def _may(word: _Word) -> tuple[tantivy.Occur, tantivy.Query]:
    assert word.query is not None
    return tantivy.Occur.Should, word.query


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("chunk", indexed=True, fast=True)
    builder.add_unsigned_field("number", indexed=True, fast=True)
    builder.add_text_field("language", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("words", tokenizer_name="words", index_option="freq")
    builder.add_text_field("stems", tokenizer_name="words", index_option="freq")
    return builder.build()


@cache
def _analyser(language: str | None) -> tantivy.TextAnalyzer:
    """Words, or their stems in a language."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(MAX_WORD_BYTES)).filter(tantivy.Filter.lowercase())
    if language is not None:
        builder = builder.filter(tantivy.Filter.stemmer(STEMMERS[language]))
    return builder.filter(tantivy.Filter.ascii_fold()).build()  # last, since stemmers know accents


def _document(chunk: ChunkText) -> tantivy.Document:
    document = tantivy.Document()
    document.add_unsigned("chunk", chunk.chunk_id)
    document.add_unsigned("number", chunk.number)
    text = clean(chunk.text)
    document.add_text("words", text)
    document.add_text("language", chunk.language or UNKNOWN)
    if chunk.language in STEMMERS:
        document.add_pre_tokenized_text("stems", _analyser(chunk.language).pre_tokenize(text))
    return document


def _found(searcher: tantivy.Searcher, asked: _Question, query: tantivy.Query, k: int) -> Found:
    hits = searcher.search(query, min(k, max(1, searcher.num_docs)), count=False).hits
    return _as_found(searcher, asked, hits)


def _sifted(searcher: tantivy.Searcher, asked: _Question, query: tantivy.Query, k: int, allowed: set[int]) -> Found:
    """As `_found`, for more attachments than a query can list: more and more hits, until k remain."""
    limit = 4 * k
    while True:
        hits = searcher.search(query, min(limit, max(1, searcher.num_docs)), count=False).hits
        numbers = searcher.fast_field_values("number", [address for _, address in hits])
        kept = [hit for hit, number in zip(hits, numbers, strict=True) if number in allowed][:k]
        if len(kept) == k or limit >= searcher.num_docs:
            return _as_found(searcher, asked, kept)
        limit *= 8


def _as_found(searcher: tantivy.Searcher, asked: _Question, hits: Sequence[tuple[float, tantivy.DocAddress]]) -> Found:
    ids = searcher.fast_field_values("chunk", [address for _, address in hits])
    scores = np.array([score for score, _ in hits], dtype=np.float64) / asked.weight
    return Found(np.array(ids, dtype=np.int64), np.clip(scores, 0.0, 1.0))
