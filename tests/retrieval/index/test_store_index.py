"""A store's indexes over the real tables: caches that are right, stale, damaged or refused, and building meanwhile."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.filters import parse_filter
from retrieval.index import dense as dense_module
from retrieval.index import dense_state
from retrieval.index.store_index import StoreIndex
from retrieval.search import Searcher
from tests.databases import only_sqlite
from tests.retrieval.library import DIMENSIONS, Library, found, texts_of
from tests.retrieval.shelf import FINGERPRINT, Shelf

TEXTS = [f"passage {i} about subject {i % 7}" for i in range(40)]


@pytest.fixture
def library(shelf: Shelf, tmp_path: Path) -> Library:
    return Library(shelf, tmp_path / "search")


@pytest.fixture
def store(library: Library) -> str:
    store_id = library.store()
    library.put(store_id, TEXTS[:20], attributes={"half": 1})
    library.put(store_id, TEXTS[20:], attributes={"half": 2})
    return store_id


def answers(searcher: Searcher, store: str) -> list[list[str]]:
    return [texts_of(found(searcher, store, "passage 3 about", ranker=ranker)) for ranker in ("dense", "lexical")]


def index_in(searcher: Searcher, store: str) -> StoreIndex:
    return searcher._indexes[store]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, library: Library) -> list[tuple[bool, int]]:
    """What is read from the database: (whether all of it, how many windows and chunks)."""
    seen: list[tuple[bool, int]] = []
    since = library.shelf.changes.since

    def counted(*args: object, **kwargs: object) -> object:
        delta = since(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        seen.append((delta.full, len(delta.windows.chunk_ids) + len(delta.chunks)))
        return delta

    monkeypatch.setattr(library.shelf.changes, "since", counted)
    return seen


def test_another_start_goes_on_from_the_caches(library: Library, store: str, reads: list[tuple[bool, int]]) -> None:
    first = library.searcher()
    expected = answers(first, store)
    first.close()
    library.put(store, ["passage 3 about"])
    reads.clear()
    second = library.searcher()
    assert "passage 3 about" in answers(second, store)[0]
    assert sum(n for _, n in reads) == 2  # its chunk and its window
    second.close()
    assert expected[0][0] == "passage 3 about subject 3"


def test_what_left_while_nobody_looked_is_gone(library: Library, store: str) -> None:
    first = library.searcher()
    answers(first, store)
    first.close()
    for file in library.shelf.attachments.list(store).items:
        if file.attributes["half"] == 1:
            library.shelf.attachments.detach(store, file.file_id)
    library.shelf.attachments.set_attributes(store, library.shelf.attachments.list(store).items[0].file_id, {"half": 3})
    second = library.searcher()
    assert all(int(text.split()[1]) >= 20 for texts in answers(second, store) for text in texts)
    index = index_in(second, store)
    assert len(index.lexical) == 20
    assert index.dense is not None
    assert len(index.dense) == 20
    third_half = parse_filter({"type": "eq", "key": "half", "value": 3})
    assert len(found(second, store, "passage", filter=third_half, max_num_results=50)) == 20
    second.close()


def flip_a_bit(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "manifest.json" and path.stat().st_size:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 64
            path.unlink()  # its links elsewhere stay as they are
            path.write_bytes(content)


def truncate(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            os.truncate(path, path.stat().st_size // 2)


def remove_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            path.unlink()


def from_the_future(folder: Path) -> None:
    for path in folder.rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["facts"]["generation"] = 10_000
        path.write_text(json.dumps(manifest))


def not_ours(folder: Path) -> None:
    """Files that are as the manifest says, and yet no index."""
    from retrieval.index.cache import Cache, Facts

    for kind, fingerprint in (("dense", FINGERPRINT), ("lexical", None)):
        Cache(folder / kind).save(
            Facts(generation=1, fingerprint=fingerprint, kind=kind),
            lambda files: (files / "meta.json").write_text("nonsense") and None,
        )


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, remove_files, from_the_future, not_ours, no_folder])
def test_a_damaged_cache_is_made_anew(
    library: Library, store: str, damage: Callable[[Path], None], reads: list[tuple[bool, int]]
) -> None:
    first = library.searcher()
    expected = answers(first, store)
    first.close()
    damage(library.folder / store)
    second = library.searcher()
    assert answers(second, store) == expected
    assert index_in(second, store).generation == library.shelf.stores.get(store).generation
    second.close()
    reads.clear()
    third = library.searcher()
    assert answers(third, store) == expected
    assert sum(n for _, n in reads) == 0  # what was made anew was saved
    third.close()


def test_a_cache_of_another_embedder_is_not_used(library: Library, store: str) -> None:
    first = library.searcher()
    answers(first, store)
    first.close()
    other = library.searcher(fingerprint="0" * 64)
    hits = found(other, store, "passage 3 about")
    assert {hit.dense for hit in hits} == {None}
    other.close()


def test_a_disk_that_refuses_is_told_once_and_searching_goes_on(
    library: Library, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    library.folder.parent.mkdir(exist_ok=True)
    library.folder.write_text("a file where the folder should be")
    searcher = library.searcher()
    with caplog.at_level(logging.WARNING):
        assert len(answers(searcher, store)[0]) == 10
        library.put(store, ["passage 3 about a full disk"])
        assert "passage 3 about a full disk" in answers(searcher, store)[1]
        for _ in range(3):
            index_in(searcher, store).save()
    assert sum("not kept on the disk" in record.message for record in caplog.records) == 1
    searcher.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from retrieval.search import Searcher, SearchOptions
from server.storage.database import Database
from tests.retrieval.library import embedded
database = Database("sqlite:///" + sys.argv[2])
searcher = Searcher(database, Path(sys.argv[3]), fingerprint="f" * 64, embedder_name="all-MiniLM-L6-v2")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))  # every file ends there
for ranker in ("lexical", "hybrid"):
    question = "passage 3 about"
    hits = searcher.search([sys.argv[4]], question, embedded(question), SearchOptions(ranker=ranker))
    print(len(hits), hits[0].passage.text, flush=True)
searcher.close()
print("closed")
"""


@only_sqlite
def test_a_full_disk_leaves_everything_searchable(library: Library, store: str, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    arguments = [str(root), str(tmp_path / "manyhats.db"), str(library.folder), store]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *arguments], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["10 passage 3 about subject 3"] * 2 + ["closed"]
    assert "goes on in memory" in done.stderr or "not kept on the disk" in done.stderr


def test_a_graph_is_built_beside_searches_and_takes_over(
    library: Library, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 30)
    monkeypatch.setattr(dense_module, "TAIL_ROWS", 10)
    monkeypatch.setattr(dense_state, "EXACT_ROWS", 0)
    monkeypatch.setattr(dense_state, "EXACT_ROWS_PER_ROOT", 0)
    searcher = library.searcher()
    expected = answers(searcher, store)
    index = index_in(searcher, store)
    assert index.details()["dense"]["kind"] == "exact"
    assert index.needs_tending()
    index.tend()
    assert index.details()["dense"]["kind"] == "hnsw"
    assert not index.needs_tending()
    assert answers(searcher, store) == expected
    file = library.put(store, ["passage 3 about"])
    assert answers(searcher, store)[0][:2] == ["passage 3 about", "passage 3 about subject 3"]
    searcher.close()
    again = library.searcher()
    assert answers(again, store)[0][:2] == ["passage 3 about", "passage 3 about subject 3"]
    assert index_in(again, store).details()["dense"]["kind"] == "hnsw"
    library.shelf.attachments.detach(store, file.file_id)
    assert "passage 3 about" not in answers(again, store)[0]
    again.close()


def test_rows_that_come_and_go_while_everything_is_built_anew(
    library: Library, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 10)
    searcher = library.searcher()
    files = library.shelf.attachments.list(store).items
    answers(searcher, store)
    index = index_in(searcher, store)
    index.tend()
    dense = index.dense
    assert dense is not None
    library.shelf.attachments.detach(store, next(file.file_id for file in files if file.attributes["half"] == 1))
    answers(searcher, store)
    assert dense.details()["removed_vectors"] == 20
    assert index.needs_tending()
    began, go_on = threading.Event(), threading.Event()

    def stopped() -> bool:
        began.set()
        go_on.wait(10)
        return False

    building = threading.Thread(target=index.tend, args=(stopped,))
    building.start()
    assert began.wait(10)
    new = library.put(store, ["passage 3 about what came meanwhile"])
    assert "passage 3 about what came meanwhile" in answers(searcher, store)[0]
    other = next(file.file_id for file in files if file.attributes["half"] == 2)
    library.shelf.attachments.detach(store, other)
    assert answers(searcher, store)[0] == ["passage 3 about what came meanwhile"]
    go_on.set()
    building.join()
    assert answers(searcher, store) == [["passage 3 about what came meanwhile"]] * 2
    assert len(dense) == 1
    index.tend()
    assert dense.details()["removed_vectors"] == 0
    library.shelf.attachments.detach(store, new.file_id)
    assert answers(searcher, store) == [[], []]
    searcher.close()


def test_building_can_be_given_up(library: Library, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 10)
    searcher = library.searcher()
    expected = answers(searcher, store)
    with pytest.raises(dense_state.GivenUp):
        index_in(searcher, store).tend(lambda: True)
    assert answers(searcher, store) == expected
    searcher.close()


def test_a_graph_that_did_not_change_is_linked_and_not_written_again(
    library: Library, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_module, "GRAPH_ROWS", 30)
    searcher = library.searcher()
    answers(searcher, store)
    index = index_in(searcher, store)
    index.tend()
    index.save()
    (graph,) = (library.folder / store / "dense").rglob("graph.faiss")
    inode = graph.stat().st_ino
    library.put(store, ["another"])
    answers(searcher, store)
    index.save()
    (graph,) = (library.folder / store / "dense").rglob("graph.faiss")
    assert graph.stat().st_ino == inode
    searcher.close()
    again = library.searcher()
    assert texts_of(found(again, store, "another"))[0] == "another"
    again.close()


def test_other_threads_keep_their_number_of_threads() -> None:
    import faiss

    from retrieval.index.faiss_index import HnswIndex

    before = faiss.omp_get_max_threads()
    vectors = np.random.default_rng(0).standard_normal((100, DIMENSIONS)).astype(np.float32)
    seen: list[int] = []

    def build() -> None:
        HnswIndex(DIMENSIONS).add(vectors)
        seen.append(faiss.omp_get_max_threads())

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    assert faiss.omp_get_max_threads() == before
    assert len(seen) == 1


def test_re_embedding_changes_the_vectors_and_not_the_words(library: Library, store: str) -> None:
    searcher = library.searcher(fingerprint="0" * 64)
    assert {hit.dense for hit in found(searcher, store, "passage 3 about")} == {None}
    words = index_in(searcher, store).lexical
    _reembed(library, store, "0" * 64)
    hits = found(searcher, store, "passage 3 about subject 3", ranker="dense")
    assert hits[0].passage.text == TEXTS[3]
    assert index_in(searcher, store).lexical is words
    searcher.close()
    old = library.searcher()
    assert {hit.dense for hit in found(old, store, "passage 3 about")} == {None}
    old.close()


def _reembed(library: Library, store: str, fingerprint: str) -> None:
    import hashlib

    from tests.retrieval.library import embedded

    table = library.shelf.reembeddings
    table.request(store, fingerprint)
    job = table.claim("test", fingerprint)
    assert job is not None
    lacking = table.lacking(job, 1_000)
    digests = {one: hashlib.sha256(one.text.encode()).hexdigest() for one in lacking}
    library.shelf.vectors.add(fingerprint, {digest: embedded(one.text) for one, digest in digests.items()})
    assert table.add(job, {one.chunk_id: [digest] for one, digest in digests.items()})
    assert table.finish(job)


@pytest.mark.parametrize("kind", ["hybrid", "lexical"])
def test_words_that_are_damaged_while_they_are_searched_are_made_anew(
    library: Library, store: str, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    searcher = library.searcher()
    questions = [f"passage {i} about subject {i % 7}" for i in range(40)]
    expected = [texts_of(found(searcher, store, question, ranker=kind)) for question in questions]
    before = index_in(searcher, store).lexical
    assert before.folder is not None
    for path in before.folder.rglob("*"):
        if path.suffix == ".idx":
            with path.open("r+b") as file:  # in place: the files are mapped into memory
                file.write(b"\xff" * path.stat().st_size)
    for question in questions:  # damage that makes no nonsense is not noticed, but no search fails
        assert len(found(searcher, store, question, ranker=kind)) == 10
    assert index_in(searcher, store).lexical is not before
    assert [texts_of(found(searcher, store, question, ranker=kind)) for question in questions] == expected
    assert caplog.text.count("is damaged and is made anew") == 1
    library.put(store, ["passage 99 about subject 1"])
    assert texts_of(found(searcher, store, "99", ranker=kind))[0] == "passage 99 about subject 1"
    searcher.close()
    again = library.searcher()  # what was written meanwhile is right
    assert texts_of(found(again, store, questions[3], ranker=kind)) == expected[3]
    again.close()


def test_what_was_removed_does_not_count_for_long(library: Library, store: str) -> None:
    """Else two processes, one of which has seen more, would score one store unequally."""
    searcher = library.searcher()
    gone = [library.put(store, ["the landlord and the rent"]) for _ in range(5)]
    library.put(store, ["the rent is due"])
    found(searcher, store, "rent")
    for file in gone:
        library.shelf.attachments.detach(store, file.file_id)
    followed = found(searcher, store, "rent", ranker="lexical")
    index_in(searcher, store).tend()
    tended = found(searcher, store, "rent", ranker="lexical")
    fresh_searcher = Library(library.shelf, library.folder.with_name("other")).searcher()
    fresh = found(fresh_searcher, store, "rent", ranker="lexical")
    assert [(hit.passage.chunk_id, hit.score) for hit in tended] == [(hit.passage.chunk_id, hit.score) for hit in fresh]
    assert followed[0].score != tended[0].score  # or this test shows nothing
    searcher.close()
    fresh_searcher.close()


def test_what_is_due_is_built_by_one_at_a_time(library: Library, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = library.searcher()
    monkeypatch.setattr(searcher._tending, "soon", lambda _: None)  # it would be the third
    answers(searcher, store)
    library.shelf.attachments.detach(store, library.shelf.attachments.list(store).items[0].file_id)
    answers(searcher, store)  # half of it is dead now: all will be built anew
    index = index_in(searcher, store)
    building, twice, go_on = threading.Event(), threading.Event(), threading.Event()

    def held() -> bool:
        building.set()
        return not go_on.wait(10)

    def noted() -> bool:
        twice.set()
        return False

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(index.tend, held)
        assert building.wait(10)
        second = pool.submit(index.tend, noted)
        assert not twice.wait(0.2)
        go_on.set()
        first.result(10)
        second.result(10)
    assert not twice.is_set()  # nothing was left to be done
    searcher.close()
