"""A process that is killed while it changes, searches and saves: the next one finds what the database has."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from tests.databases import only_sqlite
from tests.retrieval.library import Library, embedded, found
from tests.retrieval.shelf import FINGERPRINT, Shelf

ROOT = Path(__file__).resolve().parents[3]
KILLS = 2


def work(database: str, folder: str, store: str) -> None:
    """Add files, take some out, search and save, for ever."""
    path = Path(database)
    opened = Database(f"sqlite:///{path}")
    shelf = Shelf(opened, LocalBlobs(path.parent / "blobs"))
    library = Library(shelf, Path(folder))
    searcher = library.searcher()
    shuffled = random.Random()
    while True:
        library.put(store, [f"passage {shuffled.random()} of something" for _ in range(3)])
        files = shelf.attachments.list(store, limit=100).items
        if len(files) > 8:
            shelf.attachments.detach(store, shuffled.choice(files).file_id)
        found(searcher, store, "passage of something")
        searcher._indexes[store].save()
        print("round", flush=True)


@only_sqlite
def test_a_killed_searcher_leaves_nothing_wrong_behind(shelf: Shelf, tmp_path: Path) -> None:
    library = Library(shelf, tmp_path / "search")
    store = library.store()
    shuffled = random.Random(5)
    arguments = [str(tmp_path / "manyhats.db"), str(library.folder), store]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {__name__} import work; work(*sys.argv[1:])"
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(shuffled.randint(2, 12)):
                assert process.stdout.readline() == b"round\n"
            process.send_signal(signal.SIGKILL)
        searcher = library.searcher()
        hits = {hit.passage.chunk_id: hit for hit in found(searcher, store, "passage", max_num_results=1_000)}
        delta = shelf.changes.since(store, 0, fingerprint=FINGERPRINT)
        assert hits.keys() == {chunk.chunk_id for chunk in delta.chunks}
        for hit in hits.values():
            assert hit.lexical
            assert hit.dense is not None
            cosine = max(0.0, float(embedded("passage") @ embedded(hit.passage.text)))
            assert abs(hit.dense - cosine) < 1e-5
        index = searcher._indexes[store]
        assert len(index.lexical) == len(index.dense or []) == len(hits)
        searcher.close()
    assert [path for path in (library.folder / "live").iterdir() if path.is_dir()] == []
