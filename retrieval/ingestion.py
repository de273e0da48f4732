"""From files that wait to passages that are found: what the ingestion process does, round after round.

A round claims a few files, reads and splits them, and embeds what was never embedded before in batches of at most 64
windows. A batch's vectors are durable before the next begins, and a file becomes visible in one transaction at its
end; so a killed process loses the batch in flight and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import tokenizers

from retrieval.chunking import chunk
from retrieval.embedding import Vectors as Embedded
from retrieval.errors import FileNotFound, ParseFailed, RetrievalError
from retrieval.files import Files
from retrieval.heavy import Heavy, Stopped
from retrieval.parsing_apart import parse_apart
from retrieval.passage import Chunk, Document
from retrieval.queue import Job, Queue
from retrieval.vectors import Vectors

logger = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_WINDOWS = 64  # at most this much is embedded again after a kill
ROUND_FILES = 32  # small files share their batches
SLICE_SECONDS = 60.0  # then a long file lets those go ahead that wait behind it
MOST_ATTEMPTS = 5  # failures that may pass by themselves
TRUSTED_STARTS = 2
MOST_STARTS = 50  # in which nothing of a file became durable: far more than restarts of a server explain
LONGEST_PAUSE_SECONDS = 300.0


class DocumentEmbedder(Protocol):
    """What is needed of an embedder."""

    @property
    def fingerprint(self) -> str:
        """What its vectors are known by."""
        ...

    @property
    def window_tokens(self) -> int:
        """Tokens of one text that it sees."""
        ...

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """Without truncation and padding."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Embedded:
        """Unit vectors of shape (len(texts), dimensions)."""
        ...


@dataclass(slots=True)
class _Reading:
    """A file on its way: what is stored when all of its windows are embedded."""

    job: Job
    chunks: list[Chunk]
    digests: list[list[str]]  # one for each window of each chunk
    missing: dict[str, str]  # digest → text that was never embedded

    @property
    def n_windows(self) -> int:
        return sum(len(digests) for digests in self.digests)


class Ingestion:
    """Works off the queue; one per process."""

    def __init__(
        self,
        queue: Queue,
        files: Files,
        vectors: Vectors,
        embedder: DocumentEmbedder,
        *,
        holder: str,
        parse_seconds: float = 60.0,
        parse_memory_bytes: int = 2 * 1024**3,
        heavy: Heavy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._files = files
        self._vectors = vectors
        self._embedder = embedder
        self._holder = holder
        self._parse_seconds = parse_seconds
        self._parse_memory_bytes = parse_memory_bytes
        self._heavy = heavy or Heavy()
        self._clock = clock

    def step(self) -> bool:
        """Work off one round of files; False when none was due. Raises Stopped between two batches."""
        jobs = self._queue.claim_many(self._holder, ROUND_FILES)
        if not jobs:
            return False
        try:
            # who was begun before and came no further may have ended this process: the others come first, and each by
            # itself, so that it alone is counted as begun
            suspects = [job for job in jobs if job.starts > TRUSTED_STARTS]
            self._work_off([job for job in jobs if job.starts <= TRUSTED_STARTS])
            for job in suspects:
                self._work_off([job])
        finally:
            self._queue.release(self._holder)  # what was not finished; a finished job has no lease any more
        return True

    def _work_off(self, jobs: Sequence[Job]) -> None:
        self._embed([reading for job in jobs if (reading := self._read(job, jobs)) is not None])

    def _read(self, job: Job, jobs: Sequence[Job]) -> _Reading | None:
        """The file's chunks; None when it cannot be read, which its row then says."""
        if job.starts > MOST_STARTS:
            self._queue.fail(
                job, "server_error", "reading this file has ended the server's ingestion process each time"
            )
            return None
        renew = partial(self._renewed, jobs)
        try:
            # the bytes may have to be fetched; when they cannot be now, that is no file's fault, and the round ends
            path = self._heavy.run(partial(self._files.path_of, job.digest), renew)
        except FileNotFound as error:
            self._queue.fail(job, "server_error", str(error))
            return None
        read: Document | list[Chunk] | Exception = self._heavy.run(_tried(partial(self._document, path, job)), renew)
        if isinstance(read, Document):
            self._queue.begin(job)  # what has been read apart could harm nobody here; what comes now could
            read = self._heavy.run(_tried(partial(self._chunks, read, job)), renew)
        if isinstance(read, ParseFailed) and read.code != "server_error":
            self._queue.fail(job, read.code, read.message)
            return None
        if isinstance(read, Exception):  # not the file's fault, so it may pass
            self._try_again(job, read)
            return None
        chunks = read
        digests = [[text_digest(one.text[start:end]) for start, end in one.windows] for one in chunks]
        texts = {
            digest: one.text[start:end]
            for one, digests_of_one in zip(chunks, digests, strict=True)
            for digest, (start, end) in zip(digests_of_one, one.windows, strict=True)
        }
        known = self._vectors.known(self._embedder.fingerprint, list(texts))
        missing = {digest: text for digest, text in texts.items() if digest not in known}
        return _Reading(job, chunks, digests, missing)

    def _document(self, path: Path, job: Job) -> Document:
        return parse_apart(
            path,
            job.filename,
            seconds=self._parse_seconds,
            memory_bytes=self._parse_memory_bytes,
        )

    def _chunks(self, document: Document, job: Job) -> list[Chunk]:
        chunks = chunk(document, self._embedder.tokenizer, job.chunking, window_tokens=self._embedder.window_tokens)
        if not chunks:
            raise ParseFailed("invalid_file", "there is no text in this file")
        return chunks

    def _embed(self, readings: list[_Reading]) -> None:
        """Batch by batch over all files, short ones first; a file is completed as soon as nothing of it is missing."""
        began = self._clock()
        waiting = sorted(readings, key=lambda reading: len(reading.missing))
        while waiting:
            waiting = self._complete_ready(waiting)
            if not waiting:
                return
            self._heavy.check()
            if self._clock() - began > SLICE_SECONDS and self._queue.others_wait(self._holder):
                for reading in waiting:
                    self._queue.postpone(reading.job)
                return
            batch = _next_batch(waiting)
            made = self._heavy.run(
                _tried(partial(self._embedder.embed_documents, list(batch.values()))),
                partial(self._renewed, [reading.job for reading in waiting]),
            )
            if isinstance(made, Exception):  # memory, say: the files of this batch try again later
                for reading in waiting:
                    if reading.missing.keys() & batch.keys():
                        self._try_again(reading.job, made)
                waiting = [reading for reading in waiting if not reading.missing.keys() & batch.keys()]
                continue
            self._vectors.add(self._embedder.fingerprint, dict(zip(batch, made, strict=True)))
            waiting = [reading for reading in waiting if self._told(reading, batch)]

    def _complete_ready(self, waiting: list[_Reading]) -> list[_Reading]:
        left = []
        for reading in waiting:
            if reading.missing:
                left.append(reading)
            else:
                self._complete(reading)
        return left

    def _complete(self, reading: _Reading) -> None:
        try:
            self._queue.complete(reading.job, reading.chunks, reading.digests, self._embedder.fingerprint)
        except RetrievalError as error:  # a vector that nobody needed was swept meanwhile
            self._try_again(reading.job, error)

    def _told(self, reading: _Reading, batch: Mapping[str, str]) -> bool:
        """Tell how far a file is after this batch; False when nobody wants it any more."""
        before = len(reading.missing)
        for digest in batch:
            reading.missing.pop(digest, None)
        total = len(reading.chunks)
        done = total * (reading.n_windows - len(reading.missing)) // reading.n_windows
        return self._queue.renew(reading.job, done=done, total=total, further=len(reading.missing) < before)

    def _try_again(self, job: Job, error: Exception) -> None:
        """Later, and each time later; after the last time the file has failed."""
        if job.starts >= MOST_ATTEMPTS:
            logger.error("file %s failed %d times; giving up", job.file_id, job.starts, exc_info=error)
            self._queue.fail(
                job, "server_error", f"the server failed on this file {job.starts} times; its log says why"
            )
            return
        pause = min(LONGEST_PAUSE_SECONDS, 2.0**job.starts)
        logger.warning("file %s: trying again in %.0f s: %s", job.file_id, pause, error)
        self._queue.retry(job, "the server failed on this file and tries again", pause)

    def _renewed(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._queue.renew(job)


def _tried(work: Callable[[], T]) -> Callable[[], T | Exception]:
    """Returns what went wrong in it, which is told from what goes wrong with the queue while it runs."""

    def try_it() -> T | Exception:
        try:
            return work()
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this work's
            return error

    return try_it


def _next_batch(waiting: Sequence[_Reading]) -> dict[str, str]:
    batch: dict[str, str] = {}
    for reading in waiting:
        for digest, text in reading.missing.items():
            if len(batch) == BATCH_WINDOWS:
                return batch
            batch[digest] = text
    return batch


def text_digest(text: str) -> str:
    """What an embedded text is known by."""
    return hashlib.sha256(text.encode()).hexdigest()
