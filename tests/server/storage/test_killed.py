"""`kill -9` while everything is being written: what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from server.storage.assistants import Assistants
from server.storage.blobs import LocalBlobs
from server.storage.callers import Caller
from server.storage.database import Database
from server.storage.feed import Feed
from server.storage.keys import Keys
from server.storage.responses import Responses

WRITER = """
import itertools, json, sys
from pathlib import Path
from server.storage.assistants import Assistants
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.keys import Keys
from server.storage.responses import Responses, StoredResponse

folder, run = Path(sys.argv[1]), sys.argv[2]
database = Database(f"sqlite:///{folder / 'manyhats.db'}")
database.migrate()
keys, responses, assistants = Keys(database), Responses(database), Assistants(database)
blobs = LocalBlobs(folder / "blobs")

def tell(kind, value):
    print(json.dumps([kind, value]), flush=True)

for i in itertools.count():
    name = f"{run}-{i}"
    _, secret = keys.create(name)
    tell("key", secret)
    responses.save(StoredResponse(id=name, owner="ana", status="in_progress", model="demo", created_at=0.0,
                                  expires_at=9e9, body={"id": name}, input_items=({"text": "x" * 5000},)))
    tell("begun", name)
    responses.finish(name, status="completed", body={"id": name, "text": "y" * 5000})
    tell("finished", name)
    assistants.create({"name": name, "model": "demo"})
    tell("assistant", name)
    with blobs.staging() as staged:
        for part in ("one", "two"):
            (staged / part).write_text(name * 1000)
        blobs.commit(staged, f"adapters/{name}")
    tell("blob", name)
"""

ANA = Caller(key_id="key_a", name="ana", role="inference", owner="ana")


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.prove)])
def test_what_was_acknowledged_survives(tmp_path: Path, kills: int) -> None:
    chance = random.Random(20)
    told: list[tuple[str, str]] = []
    for run in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), f"run{run}"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout
        told += [tuple(json.loads(child.stdout.readline())) for _ in range(chance.randrange(1, 60))]
        child.kill()
        # What it said between our last reading and its death counts too; its last line may be cut.
        told += [
            tuple(json.loads(line)) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")
        ]
        child.stdout.close()
        child.wait()
    check(tmp_path, told, kills)


def check(folder: Path, told: list[tuple[str, str]], kills: int) -> None:
    with sqlite3.connect(folder / "manyhats.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()
    database = Database(f"sqlite:///{folder / 'manyhats.db'}")
    database.migrate()
    keys, responses, assistants = Keys(database), Responses(database), Assistants(database)
    blobs = LocalBlobs(folder / "blobs")
    blobs.sweep()
    names = {
        kind: [value for k, value in told if k == kind] for kind in ("key", "begun", "finished", "assistant", "blob")
    }

    assert all(keys.find(secret) for secret in names["key"])
    assert all(assistants.find(name) for name in names["assistant"])
    assert all(responses.load(name, ANA) for name in names["begun"])
    assert all(responses.load(name, ANA).body["text"] == "y" * 5000 for name in names["finished"])
    assert set(names["blob"]) <= {key.removeprefix("adapters/") for key in blobs.keys("adapters/")}
    for key in blobs.keys(""):
        name = key.removeprefix("adapters/")
        parts = {path.name: path.read_text() for path in blobs.path(key).iterdir()}
        assert parts == {"one": name * 1000, "two": name * 1000}
    assert list((folder / "blobs" / "staging").iterdir()) == []

    # A change and its telling are one transaction: at most one per run was done and not acknowledged.
    generations = Feed(database).generations()
    assert generations["keys"] == len(keys.list())
    assert len(names["key"]) <= len(keys.list()) <= len(names["key"]) + kills
    assert generations["assistants"] == len(assistants.all())
    assert responses.fail_interrupted() <= kills
    database.close()
