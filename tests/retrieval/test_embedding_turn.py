"""One at a time; and a query passes the batches that wait."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.embedding import BATCH_TEXTS, BATCH_TOKENS, Embedder, _batches
from retrieval.embedding_turn import Turn
from tests.retrieval.tiny_embedder import make_embedder


def wait_until_waiting(turn: Turn, count: int) -> None:
    """Until so many threads wait for the turn."""
    while len(turn._changed._waiters) < count:  # type: ignore[attr-defined]
        threading.Event().wait(0.001)


def test_the_urgent_go_first() -> None:
    turn = Turn()
    order: list[str] = []

    def take(name: str, urgent: bool) -> None:
        with turn.taken(urgent=urgent):
            order.append(name)

    with turn.taken(urgent=False):
        threads = []
        for name, urgent in (("first", False), ("second", False), ("query", True)):
            threads.append(threading.Thread(target=take, args=(name, urgent)))
            threads[-1].start()
            wait_until_waiting(turn, len(threads))
    for thread in threads:
        thread.join(10)
    assert order[0] == "query"
    assert sorted(order[1:]) == ["first", "second"]


def test_who_fails_gives_the_turn_back() -> None:
    turn = Turn()
    with pytest.raises(ZeroDivisionError), turn.taken(urgent=True):
        raise ZeroDivisionError
    with turn.taken(urgent=False):
        pass


def test_a_query_waits_for_one_batch_of_a_long_list_of_documents(tmp_path: Path) -> None:
    embedder = Embedder(str(make_embedder(tmp_path / "model")), backend="torch")
    inner = embedder._backend()
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []  # texts of each batch

    class Watched:
        name, dimensions, tokens = inner.name, inner.dimensions, inner.tokens

        def run(self, texts: list[str], encodings: list[object]) -> NDArray[np.float32]:
            begun.set()
            assert go_on.wait(60)
            done.append(len(texts))
            return inner.run(texts, encodings)  # type: ignore[arg-type]

    embedder._loaded = Watched()  # type: ignore[assignment]
    documents = threading.Thread(target=embedder.embed_documents, args=(["ab " * 100] * 200,))
    documents.start()
    assert begun.wait(60)
    query = threading.Thread(target=embedder.embed_queries, args=(["ab cd"],))
    query.start()
    wait_until_waiting(embedder._turn, 1)
    go_on.set()
    query.join(60)
    documents.join(60)
    assert done.index(1) == 1  # after the batch that ran when it came
    assert sum(done) == 201


def test_batches_are_small_and_of_like_lengths() -> None:
    lengths = [7, 250, 3, 100, 256, 12, 256] * 40
    batches = list(_batches(lengths))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    padded = 0
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) <= BATCH_TEXTS
        assert len(batch) * longest <= BATCH_TOKENS
        padded += len(batch) * longest
    assert padded < 1.1 * sum(lengths)


def test_a_text_longer_than_a_batch_goes_alone() -> None:
    assert list(_batches([5000, 5000, 1])) == [[0], [1], [2]]
    assert list(_batches([])) == []
