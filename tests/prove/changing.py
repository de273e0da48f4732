"""One of several processes that change everything in one database at once, and tell what they see in the end.

    python -m tests.prove.changing URL FOLDER NAME --changes 1000 --seed 1

Reads "go" from its input, makes the changes, answers "done"; reads "tell", reads again what it keeps in memory, as a
server does when others have changed something, and answers with all that it sees: registry, keys, assistants, stores
and search results. FOLDER holds the blobs of all; what one process caches is its own.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from adapters.manifest import Manifest
from adapters.registry import Registry
from retrieval.errors import FileNotFound, StoreFileNotFound
from retrieval.search import Searcher, SearchOptions
from server.storage import feed
from server.storage.assistants import Assistants
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.errors import AssistantNotFound
from server.storage.keys import Keys
from tests.retrieval.library import EMBEDDER, embedded
from tests.retrieval.shelf import FINGERPRINT, Shelf, chunk, digest

ADAPTERS = ("legal", "medical", "poet")
STORES = ("statutes", "letters")
SHARED = "shared"  # an assistant of which each process changes a field of its own
FIELDS = {"one": "temperature", "two": "top_p"}
WORDS = ("rent", "notice", "landlord", "deposit", "repairs", "heating")
REFUSALS = (AdapterError, AssistantNotFound, FileNotFound, StoreFileNotFound)  # the other one was faster


class Replica:
    """What a server has over a shared database, without HTTP and engine."""

    def __init__(self, url: str, folder: Path, name: str, seed: int) -> None:
        self.name = name
        self.chance = random.Random(f"{seed} {name}")
        self.database = Database(url)
        self.folder = folder
        blobs = LocalBlobs(folder / "blobs")
        self.keys, self.assistants = Keys(self.database), Assistants(self.database)
        self.registry = Registry(
            self.database,
            blobs,
            base_name="demo",
            base_fingerprint="f" * 64,
            on_write=partial(feed.bump, topic="adapters"),
        )
        self.shelf = Shelf(self.database, blobs, clock=time.time)  # type: ignore[arg-type]  # as a server's
        self.searcher = Searcher(
            self.database, folder / f"indexes-{name}", fingerprint=FINGERPRINT, embedder_name=EMBEDDER
        )
        self.counts: Counter[str] = Counter()
        self.made = 0
        self.last: float | None = None  # of the field that is its own; none was drawn yet
        self.created: list[str] = []  # keys
        self.revoked: list[str] = []

    def prepare(self) -> None:
        """What all of them change."""
        for name in STORES:
            self.shelf.stores.create("ana", name=name)
        self.assistants.create({"name": SHARED, "model": "demo"})

    def change(self) -> None:
        """One change, whatever it is; what another process made impossible is refused, and counts too."""
        step = self.chance.choice(
            (self.add_version, self.move, self.write_assistant, self.write_shared, self.write_key)
            + 2 * (self.put_file, self.set_attributes, self.drop_file)
        )
        try:
            step()
            self.counts["made"] += 1
        except REFUSALS as refused:
            self.counts[type(refused).__name__] += 1

    def add_version(self) -> None:
        name, word = self.chance.choice(ADAPTERS), f"weights {self.chance.randrange(12)}"
        self.registry.refresh()
        staged = self.folder / f"staged-{self.name}-{self.counter()}"
        staged.mkdir()
        (staged / "adapter_model.safetensors").write_text(word)
        (staged / "adapter_config.json").write_text('{"r": 8}')
        manifest = _manifest(word)
        if any(adapter.name == name for adapter in self.registry.list()):
            self.registry.add_version(name, staged, manifest, source="upload", activate=self.chance.random() < 0.5)
        else:
            self.registry.add(name, staged, manifest, source="upload")

    def move(self) -> None:
        name = self.chance.choice(ADAPTERS)
        if self.chance.random() < 0.1:
            self.registry.remove(name)
            self.registry.collect()
            return
        self.registry.move_alias(name, self.chance.choice(["previous", _manifest(f"weights {self.made % 12}").digest]))

    def write_assistant(self) -> None:
        name = f"clerk-{self.chance.randrange(6)}"
        self.assistants.refresh()
        if self.assistants.find(name) is None:
            self.assistants.create({"name": name, "model": "demo"})
        elif self.chance.random() < 0.5:
            self.assistants.update(name, {"instructions": f"{self.name} {self.counter()}"})
        else:
            self.assistants.delete(name)

    def write_shared(self) -> None:
        self.last = self.chance.randrange(1, 100) / 100
        self.assistants.update(SHARED, {FIELDS[self.name]: self.last})

    def write_key(self) -> None:
        if self.created and self.chance.random() < 0.5:
            self.revoked.append(self.created[-1])
            self.keys.revoke(self.created[-1])
        else:
            self.created.append(self.keys.create(f"{self.name}-{self.counter()}")[0].key_id)

    def put_file(self) -> None:
        texts = [" ".join(self.chance.choices(WORDS, k=5)) for _ in range(self.chance.randrange(1, 4))]
        file = self.shelf.upload(" ".join(texts), filename=f"{self.name}-{self.counter()}.txt")
        store = self.store()
        self.shelf.attachments.attach(store, file.id, attributes={"by": self.name})
        job = self.shelf.queue.claim(self.name)
        if job is not None:  # perhaps the other's
            self.shelf.vectors.add(FINGERPRINT, {digest(text): embedded(text) for text in texts})
            self.shelf.queue.complete(job, [chunk(t) for t in texts], [[digest(t)] for t in texts], FINGERPRINT)
        self.search(store, "rent of the landlord")

    def set_attributes(self) -> None:
        store = self.store()
        self.shelf.attachments.set_attributes(store, self.file_of(store), {"by": self.name, "at": self.counter()})

    def drop_file(self) -> None:
        store = self.store()
        file_id = self.file_of(store)
        if self.chance.random() < 0.5:
            self.shelf.attachments.detach(store, file_id)
        else:
            self.shelf.files.delete(file_id, None)

    def told(self) -> dict[str, Any]:
        """Everything that a client could see, as JSON."""
        for part in (self.registry, self.assistants, self.keys):
            part.refresh()
        for name in STORES:
            self.search(_id(self, name), "any")
            self.searcher._indexes[_id(self, name)].tend()  # as it does by itself when a store has been quiet
        return {
            "adapters": [
                [a.name, a.traffic, a.previous, [[v.lora_id, v.digest, v.error] for v in a.versions]]
                for a in self.registry.list()
            ],
            "files_are_there": [self.registry.path(v).is_dir() for a in self.registry.list() for v in a.versions],
            "assistants": [[one.id, one.name, one.instructions] for one in self.assistants.all()],
            "shared": {name: getattr(self.assistants.get(SHARED), field) for name, field in FIELDS.items()},
            "keys": {key.caller.key_id: key.revoked_at for key in self.keys.list()},
            "stores": [repr(store) for name in STORES for store in self.shelf.stores.find(name)],
            "files": [
                repr(file) for name in STORES for file in self.shelf.attachments.list(_id(self, name), limit=9999).items
            ],
            "found": {f"{name}: {word}": self.search(_id(self, name), word) for name in STORES for word in WORDS},
        }

    def search(self, store: str, text: str) -> list[Any]:
        options = SearchOptions(max_num_results=50)
        hits = self.searcher.search([store], text, embedded(text), options)
        return [
            [hit.passage.chunk_id, hit.passage.text, dict(hit.passage.attributes), round(hit.score, 6)] for hit in hits
        ]

    def store(self) -> str:
        return _id(self, self.chance.choice(STORES))

    def file_of(self, store: str) -> str:
        files = self.shelf.attachments.list(store, limit=100).items
        if not files:
            raise StoreFileNotFound("there is none")
        return self.chance.choice(files).file_id

    def counter(self) -> int:
        self.made += 1
        return self.made


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--changes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    replica = Replica(given.url, given.folder, given.name, given.seed)
    say("ready")
    for line in sys.stdin:
        if line == "go\n":
            started = time.monotonic()
            for _ in range(given.changes):
                replica.change()
            say({"counts": replica.counts, "seconds": time.monotonic() - started})
        elif line == "tell\n":
            mine = {"created": replica.created, "revoked": replica.revoked, "last": replica.last}
            say({"seen": replica.told(), **mine})
    replica.searcher.close()
    replica.database.close()


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


def _id(replica: Replica, name: str) -> str:
    return replica.shelf.stores.find(name)[0].id


def _manifest(word: str) -> Manifest:
    return Manifest(
        digest=digest(word),
        rank=8,
        alpha=16.0,
        use_rslora=False,
        target_modules=("q_proj",),
        n_parameters=1024,
        size_bytes=len(word),
        dtype="F32",
        declared_base="some/base",
        warnings=(),
        effect=0.25,
        modules=8,
        details={},
    )


if __name__ == "__main__":
    main()
