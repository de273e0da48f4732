"""How long a search takes over many chunks, and what adding, deleting and restarting cost: through the HTTP API.

The chunks are sentences of SciFact in new combinations. Their vectors are those of real passages with noise, because
embedding 100,000 chunks would take most of an hour; the questions are SciFact's own and embedded by the server.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from bench import servers
from bench.retrieval import client
from bench.retrieval.corpora import Corpus
from bench.retrieval.measures import percentile
from bench.retrieval.recall import noisy
from retrieval.attachments import Attachments, Entry
from retrieval.embedding import Embedder
from retrieval.files import Files
from retrieval.passage import Chunk
from retrieval.queue import Queue
from retrieval.stores import Stores
from retrieval.vectors import Vectors
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

FILE_CHUNKS = 100
REAL_VECTORS = 2_000
RANKERS = ("hybrid", "dense", "lexical")

Say = Callable[[str], None]


def measure(corpus: Corpus, questions: Sequence[str], n_chunks: int, folder: Path, say: Say) -> None:
    """Fill a data directory, start the server over it, and measure from outside."""
    data_dir = folder / "data"
    store_id = _fill(corpus, n_chunks, data_dir)
    told = {"MANYHATS_ENGINE": "fake"}
    server = servers.ours(told, folder=folder)
    try:
        api = client.connect(server.port)
        _until_searched(api, store_id)
        _until_settled(server, store_id)
        say(f"\n### {n_chunks} chunks in {n_chunks // FILE_CHUNKS} files\n")
        say("| search, one at a time | p50 ms | p99 ms |\n|---|---|---|")
        asked, searches = iter(questions), client.Searches(server.port)
        share = len(questions) // len(RANKERS)
        for ranker in RANKERS:
            seconds = [searches.seconds(store_id, next(asked), ranker, 10) for _ in range(share)]
            say(f"| {ranker} | {_ms(percentile(seconds, 0.5))} | {_ms(percentile(seconds, 0.99))} |")
        say("\n| change | |\n|---|---|")
        for name, figure in _changes(api, store_id):
            say(f"| {name} | {figure} |")
        index = servers.call(server.port, "GET", f"/v1/vector_stores/{store_id}").get("index", {})
        memory = server.processes()["api"].memory_info().rss / 2**20
    finally:
        server.stop()
    say(f"| index | {index} |")
    say(f"| index files | {_mib(data_dir / 'cache')} |")
    say(f"| database | {_mib(data_dir, 'manyhats.db*')} |")
    say(f"| API process's memory | {memory:.0f} MiB |")
    started = time.monotonic()
    server = servers.ours(told, folder=folder)
    try:
        _until_searched(client.connect(server.port), store_id)
        say(f"| restart, to the first search answered (engine aside) | {time.monotonic() - started:.1f} s |")
    finally:
        server.stop()


def _changes(api: client.openai.OpenAI, store_id: str) -> Iterator[tuple[str, str]]:
    """Add a file and delete it, several times."""
    found_after, deletes = [], []
    for number in range(7):
        word = f"zyx{number}wvu"
        file = api.files.create(file=("new.txt", f"The code word of the day is {word}.".encode()), purpose="assistants")
        api.vector_stores.files.create(store_id, file_id=file.id)
        while api.vector_stores.files.retrieve(file.id, vector_store_id=store_id).status == "in_progress":
            time.sleep(0.005)
        completed = time.perf_counter()
        while file.id not in client.search(api, store_id, f"What is {word}?", "hybrid", 10)[0]:
            if time.perf_counter() - completed > 60:
                raise RuntimeError("a completed file was not found within a minute")
        found_after.append(time.perf_counter() - completed)
        started = time.perf_counter()
        api.files.delete(file.id)
        deletes.append(time.perf_counter() - started)
        if file.id in client.search(api, store_id, f"What is {word}?", "hybrid", 10)[0]:
            raise RuntimeError("a deleted file was found")
    yield "from completed to found by a search, that search included", f"{_ms(percentile(found_after, 0.5))} ms"
    yield "delete a file of one chunk, gone from the next search", f"{_ms(percentile(deletes, 0.5))} ms"
    page = api.vector_stores.files.list(store_id, limit=100, order="asc")
    deletes = []
    for attached in page.data[:7]:
        started = time.perf_counter()
        api.files.delete(attached.id)
        deletes.append(time.perf_counter() - started)
    yield f"delete a file of {FILE_CHUNKS} chunks", f"{_ms(percentile(deletes, 0.5))} ms"
    seconds = client.search(api, store_id, "What came after the deletes?", "hybrid", 10)[1]
    yield "the next search", f"{_ms(seconds)} ms"


def _fill(corpus: Corpus, n_chunks: int, data_dir: Path) -> str:
    """A store with so many chunks, written by the classes that the server writes with."""
    data_dir.mkdir(parents=True)
    dice = random.Random(0)
    sentences = corpus.sentences()
    embedder = Embedder()
    real = embedder.embed_documents([" ".join(dice.sample(sentences, 3)) for _ in range(REAL_VECTORS)])
    noise = np.random.default_rng(0)
    with closing(Database(f"sqlite:///{data_dir / 'manyhats.db'}")) as database:
        database.migrate()
        files = Files(database, LocalBlobs(data_dir / "blobs"), max_bytes=2**30)
        stores, attachments = Stores(database), Attachments(database)
        queue, vectors = Queue(database), Vectors(database)
        store = stores.create("local", name="bench")
        for number in range(n_chunks // FILE_CHUNKS):
            texts = [" ".join(dice.sample(sentences, 3)) for _ in range(FILE_CHUNKS)]
            with files.staging() as staged:
                (staged / "content").write_text("\n\n".join(texts))
                file = files.add(staged, filename=f"{number:05}.txt", purpose="assistants", owner="local")
            attachments.attach_batch(store.id, [Entry(file_id=file.id, attributes={"number": number % 100})])
            job = queue.claim("bench")
            assert job is not None
            digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
            made = noisy(real[noise.integers(len(real), size=len(texts))], noise)
            vectors.add(embedder.fingerprint, dict(zip(digests, made, strict=True)))
            chunks = [_chunk(text) for text in texts]
            assert queue.complete(job, chunks, [[digest] for digest in digests], embedder.fingerprint)
    return store.id


def _chunk(text: str) -> Chunk:
    return Chunk(
        text=text,
        page=None,
        heading=(),
        start=0,
        end=len(text),
        language="en",
        tokens=len(text) // 4,
        windows=((0, len(text)),),
    )


def _until_searched(api: client.openai.OpenAI, store_id: str) -> None:
    client.search(api, store_id, "Is anybody there?", "hybrid", 10)


def _until_settled(server: servers.Server, store_id: str) -> None:
    """Until no index is being built in the background."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        index = servers.call(server.port, "GET", f"/v1/vector_stores/{store_id}")["index"]
        if not index["dense"]["building"]:
            return
        time.sleep(1)
    raise RuntimeError("the index was not built in five minutes")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _mib(folder: Path, pattern: str = "**/*") -> str:
    return f"{sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file()) / 2**20:.0f} MiB"
