"""Files, a store and the queue over one data directory, and an embedder that makes vectors of hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from tokenizers import Tokenizer, models, pre_tokenizers

from retrieval.attachments import Attachments
from retrieval.embedding import Vectors as Embedded
from retrieval.files import Files
from retrieval.ingestion import Ingestion
from retrieval.queue import Queue
from retrieval.stores import Stores
from retrieval.vector_store import StoreFile
from retrieval.vectors import Vectors
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

DIMENSIONS = 8


def words() -> Tokenizer:
    """One token for each word, none of them known."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@dataclass
class Hashing:
    """Unit vectors from hashes, with a record of what was embedded."""

    fingerprint: str = "hashing"
    window_tokens: int = 256
    tokenizer: Tokenizer = field(default_factory=words)
    batches: list[list[str]] = field(default_factory=list)
    before: Callable[[Sequence[str]], None] = lambda _: None

    def embed_documents(self, texts: Sequence[str]) -> Embedded:
        self.before(texts)
        self.batches.append(list(texts))
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> Embedded:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        made = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
        return made / np.linalg.norm(made)

    @property
    def embedded(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


@dataclass
class House:
    """Files, a store and the queue over one data directory, at a time that stands still until a test moves it."""

    database: Database
    folder: Path
    now: float = 1_000_000.0

    def __post_init__(self) -> None:
        def clock() -> float:
            return self.now

        self.files = Files(self.database, LocalBlobs(self.folder / "blobs"), max_bytes=10**8, clock=clock)
        self.stores = Stores(self.database, clock=clock)
        self.attachments = Attachments(self.database, clock=clock)
        self.queue = Queue(self.database, clock=clock)
        self.vectors = Vectors(self.database, clock=clock)
        self.embedder = Hashing()
        self.store_id = self.stores.create("ana", name="handbook").id

    def upload(self, content: str | bytes, name: str = "note.txt") -> str:
        with self.files.staging() as staged:
            (staged / "content").write_bytes(content.encode() if isinstance(content, str) else content)
            return self.files.add(staged, filename=name, purpose="assistants", owner="ana").id

    def attach(self, content: str | bytes, name: str = "note.txt", *, store_id: str | None = None) -> str:
        file_id = self.upload(content, name)
        self.attachments.attach(store_id or self.store_id, file_id)
        return file_id

    def worker(self, **more: object) -> Ingestion:
        return Ingestion(self.queue, self.files, self.vectors, self.embedder, holder="worker", **more)

    def work(self) -> None:
        worker = self.worker()
        while worker.step():
            pass

    def file(self, file_id: str, store_id: str | None = None) -> StoreFile:
        return self.attachments.get(store_id or self.store_id, file_id)

    def texts(self, file_id: str) -> list[str]:
        return [text for _, text in self.attachments.content(self.store_id, file_id).items]

    def count(self, table: sa.Table) -> int:
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def prose(n_words: int, word: str = "word") -> str:
    """Sentences of ten words, no two the same."""
    sentences = [" ".join(f"{word}{i + j}" for j in range(min(10, n_words - i))) + "." for i in range(0, n_words, 10)]
    return " ".join(sentences)
