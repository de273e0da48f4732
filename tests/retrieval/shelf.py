"""Everything that keeps files and stores, over one database and one clock, and short ways to fill it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from retrieval.attachments import Attachments
from retrieval.changes import Changes
from retrieval.file import File
from retrieval.files import Files
from retrieval.passage import Chunk
from retrieval.passages import Passages
from retrieval.queue import Job, Queue
from retrieval.reembedding_table import Reembeddings
from retrieval.stores import Stores
from retrieval.vector_store import StoreFile
from retrieval.vectors import Vectors
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

FINGERPRINT = "f" * 64
DIMENSIONS = 4


@dataclass
class Clock:
    """Unix seconds that go on only when a test says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Shelf:
    """Everything that keeps files and stores, over one database and one clock."""

    database: Database
    blobs: LocalBlobs
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.files = Files(self.database, self.blobs, max_bytes=1_000, clock=self.clock)
        self.stores = Stores(self.database, clock=self.clock)
        self.attachments = Attachments(self.database, clock=self.clock)
        self.queue = Queue(self.database, clock=self.clock)
        self.vectors = Vectors(self.database, clock=self.clock)
        self.changes = Changes(self.database, clock=self.clock)
        self.passages = Passages(self.database, clock=self.clock)
        self.reembeddings = Reembeddings(self.database, clock=self.clock)

    def upload(self, text: str = "some text", *, owner: str = "ana", **further: object) -> File:
        with self.files.staging() as folder:
            (folder / "content").write_text(text)
            given = {"filename": "notes.txt", "purpose": "assistants", **further}
            return self.files.add(folder, owner=owner, **given)  # type: ignore[arg-type]

    def complete(self, job: Job | None, texts: Sequence[str], fingerprint: str = FINGERPRINT) -> bool:
        """End a claimed file with these chunks, each one window."""
        assert job is not None
        self.embed(texts, fingerprint)
        chunks = [chunk(text) for text in texts]
        return self.queue.complete(job, chunks, [[digest(text)] for text in texts], fingerprint)

    def embed(self, texts: Sequence[str], fingerprint: str = FINGERPRINT) -> None:
        self.vectors.add(fingerprint, {digest(text): vector(text, fingerprint) for text in texts})

    def attached(
        self, store_id: str, texts: Sequence[str] = ("one", "two"), fingerprint: str = FINGERPRINT
    ) -> StoreFile:
        """A fresh file in the store, completed."""
        file = self.upload(" ".join(texts))
        self.attachments.attach(store_id, file.id)
        assert self.complete(self.queue.claim("test"), texts, fingerprint)
        return self.attachments.get(store_id, file.id)

    def count(self, table: str) -> int:
        with self.database.read() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def chunk(text: str, position: int = 0) -> Chunk:
    return Chunk(
        text=text,
        page=2,
        heading=("Part", "Chapter"),
        start=position,
        end=position + len(text),
        language="en",
        tokens=len(text.split()),
        windows=((0, len(text)),),
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def vector(text: str, fingerprint: str = FINGERPRINT) -> np.ndarray:
    """A unit vector that is the text's and the fingerprint's alone."""
    seed = int.from_bytes(hashlib.sha256((fingerprint + text).encode()).digest()[:8])
    made = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return (made / np.linalg.norm(made)).astype(np.float32)
