"""`kill -9` while files come, are read and go: what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.errors import FileNotFound
from retrieval.upkeep import sweep
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from tests.retrieval.shelf import FINGERPRINT, Clock, Shelf

WRITER = """
import itertools, json, sys
from pathlib import Path
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from tests.retrieval.shelf import Shelf

folder, run = Path(sys.argv[1]), int(sys.argv[2])
shelf = Shelf(Database(f"sqlite:///{folder / 'manyhats.db'}"), LocalBlobs(folder / "blobs"))
shelf.clock.now += 1000 * run  # what a killed one had claimed is free again

def tell(kind, *value):
    print(json.dumps([kind, *value]), flush=True)

store = shelf.stores.create("ana", name="docs")
tell("store", store.id)
present = []
for i in itertools.count():
    text = f"{run} {i}" if i % 3 else "the same"
    file = shelf.upload(text)
    tell("uploaded", file.id, text)
    shelf.attachments.attach(store.id, file.id, attributes={"i": i})
    tell("attached", store.id, file.id)
    while job := shelf.queue.claim("writer"):
        if shelf.complete(job, [f"{job.file_id} {n}" for n in range(3)]):
            tell("completed", job.store_id, job.file_id)
    present.append(file.id)
    if i % 3 == 2:
        gone = present.pop(0)
        tell("deleting", gone)
        shelf.files.delete(gone, "ana")
        tell("deleted", gone)
"""


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.prove)])
def test_what_was_acknowledged_survives(tmp_path: Path, migrated: Path, kills: int) -> None:
    (tmp_path / "manyhats.db").write_bytes(migrated.read_bytes())
    chance = random.Random(7)
    told: list[list[str]] = []
    for run in range(kills):
        writer = [sys.executable, "-c", WRITER, str(tmp_path), str(run)]
        child = subprocess.Popen(writer, stdout=subprocess.PIPE, text=True)
        assert child.stdout
        told += [json.loads(child.stdout.readline()) for _ in range(chance.randrange(1, 60))]
        child.kill()
        # What it said between our last reading and its death counts too; its last line may be cut.
        told += [json.loads(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.stdout.close()
        child.wait()
        check(tmp_path, told)
    shelf = opened(tmp_path, 10**9)
    sweep(shelf.database, shelf.blobs, clock=shelf.clock)
    check(tmp_path, told)
    rows = {f"files/{file.digest}" for file in shelf.files.list(None).items}
    assert set(shelf.blobs.keys("files/")) == rows
    shelf.database.close()


def opened(folder: Path, later: float = 0) -> Shelf:
    database = Database(f"sqlite:///{folder / 'manyhats.db'}")
    return Shelf(database, LocalBlobs(folder / "blobs"), Clock(1_000_000 + later))


def check(folder: Path, told: list[list[str]]) -> None:
    with sqlite3.connect(folder / "manyhats.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()
    shelf = opened(folder)
    begun, ended = ({line[1] for line in told if line[0] == kind} for kind in ("deleting", "deleted"))
    for kind, *what in told:
        if kind == "uploaded":
            file_id, text = what
            if file_id in ended:
                with pytest.raises(FileNotFound):
                    shelf.files.get(file_id, None)
            elif file_id not in begun:
                file = shelf.files.get(file_id, None)
                assert shelf.files.path(file).read_text() == text
                assert file.digest == hashlib.sha256(text.encode()).hexdigest()
        elif kind in ("attached", "completed") and what[1] not in begun:
            status = shelf.attachments.get(*what).status
            assert status == "completed" or kind == "attached"
    for store_id in {line[1] for line in told if line[0] == "store"}:
        delta = shelf.changes.since(store_id, 0, fingerprint=FINGERPRINT)
        by_number = {state.number: state.file_id for state in delta.files}
        texts = sorted(one.text for one in delta.chunks)
        assert texts == sorted(f"{file_id} {n}" for file_id in by_number.values() for n in range(3))
        assert sorted(delta.windows.chunk_ids.tolist()) == sorted(one.chunk_id for one in delta.chunks)
        assert ended.isdisjoint(by_number.values())
        passages = shelf.passages.load([one.chunk_id for one in delta.chunks])
        assert all(passage.text.startswith(passage.file_id) for passage in passages.values())
        assert len(passages) == len(delta.chunks)
        if not delta.chunks:
            continue
        assert delta.windows.vectors.shape == (len(delta.chunks), 4)
    shelf.database.close()
