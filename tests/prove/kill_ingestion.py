"""Kill the ingestion process at random moments while files are added, changed and deleted; then look at what is there.

    python -m tests.prove.kill_ingestion --kills 100 --documents ../shared/data/documents

After the last kill the process works until nothing waits. Then every file that was acknowledged and not deleted is
there and has ended, those that can be read with exactly the chunks that a clean reading gives, each with the vector of
its own text; nothing is left of deleted ones; and what was embedded twice is at most a batch for each kill.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import sqlalchemy as sa

from retrieval import tables
from retrieval.attachments import Attachments, Entry
from retrieval.changes import Changes
from retrieval.chunking import chunk
from retrieval.embedding import Embedder
from retrieval.files import Files
from retrieval.ingestion import BATCH_WINDOWS
from retrieval.parsing_apart import parse_apart
from retrieval.queue import Queue
from retrieval.stores import Stores
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

ROOT = Path(__file__).parents[2]
GENERATED = 200
LAST_RUN_SECONDS = 1200
START_SECONDS = 20  # nothing left to embed, perhaps
FEWEST_WAITING = 10
SAMPLE = 400  # chunks whose vectors are computed anew

WORDS = ["tide", "harbour", "ledger", "clause", "patient", "invoice", "lantern", "river", "court", "salary", "visit"]


@dataclass
class Proof:
    """One data directory, and what its owner was told is there."""

    folder: Path
    seed: int
    ours: dict[str, str] = field(default_factory=dict)  # file id → what it is
    kills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.database = Database(f"sqlite:///{self.folder / 'data' / 'manyhats.db'}")
        self.database.migrate()
        blobs = LocalBlobs(self.folder / "data" / "blobs")
        self.files = Files(self.database, blobs, max_bytes=10**9)
        self.attachments = Attachments(self.database)
        self.queue = Queue(self.database)
        self.store_id = Stores(self.database).create("local", name="proof").id
        self.record = self.folder / "embedded.txt"
        self.log = self.folder / "ingestion.log"

    def upload(self, content: bytes, name: str, kind: str) -> str:
        with self.files.staging() as staged:
            (staged / "content").write_bytes(content)
            file = self.files.add(staged, filename=name, purpose="assistants", owner="local")
        self.ours[file.id] = kind
        return file.id

    def fill(self, documents: Path | None) -> None:
        """Both folders' files, attached in one batch."""
        entries = []
        if documents is not None:
            found = sorted(path for path in documents.rglob("*") if path.is_file() and path.stat().st_size)
            entries += [Entry(file_id=self.upload(path.read_bytes(), path.name, "document")) for path in found]
        for number in range(GENERATED):
            entries.append(Entry(file_id=self.upload(self.text(), f"{number}.txt", "generated")))
        self.attachments.attach_batch(self.store_id, entries)

    def text(self) -> bytes:
        """A text of its own, from one sentence to about a hundred chunks."""
        n = 2 ** self.dice.randrange(1, 11)
        sentences = (" ".join(self.dice.choices(WORDS, k=9)) + f" {self.dice.random()}." for _ in range(n))
        return " ".join(sentences).encode()

    def start(self) -> subprocess.Popen[bytes]:
        told = {"MANYHATS_DATA_DIR": str(self.folder / "data"), "MANYHATS_LOG_LEVEL": "warning"}
        command = [sys.executable, "-m", "tests.prove.counted_ingestion", str(self.record), str(os.getpid())]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **told}, stdout=log, stderr=log)

    def kill_once(self) -> None:
        """Let it work for a random time while its owner changes things; then `kill -9`, and nobody may be left."""
        before = self.embedded()
        for _ in range(max(0, FEWEST_WAITING - self.waiting())):  # there is always something to be killed at
            self.attachments.attach(self.store_id, self.upload(self.text(), "more.txt", "generated"))
        process = self.start()
        running = psutil.Process(process.pid)
        # some while it starts and reads, the others once it embeds, however long a busy machine takes to come there
        if self.dice.random() < 0.2:
            ends_at = time.monotonic() + self.dice.uniform(0.2, 3.0)
        else:
            until = time.monotonic() + START_SECONDS
            while self.embedded() == before and time.monotonic() < until:
                time.sleep(0.02)
            ends_at = time.monotonic() + self.dice.uniform(0.0, 2.0)
        while time.monotonic() < ends_at:
            self.change()
            time.sleep(self.dice.uniform(0.0, 0.3))
        family = [running, *running.children(recursive=True)]
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(family[1:], timeout=10)
        assert not alive, f"the killed process left {alive}"
        self.kills["while embedding" if self.embedded() > before else "before it embedded"] += 1

    def change(self) -> None:
        """Add, delete or edit a file, now and then."""
        roll = self.dice.random()
        if roll < 0.08:
            self.attachments.attach(self.store_id, self.upload(self.text(), "later.txt", "generated"))
        elif roll < 0.14:
            gone = self.dice.choice(sorted(self.ours))
            self.files.delete(gone, None)
            del self.ours[gone]
        elif roll < 0.25:
            edited = self.dice.choice(sorted(self.ours))
            self.attachments.set_attributes(self.store_id, edited, {"edited": self.dice.random()})

    def finish(self) -> float:
        """Let it work until nothing waits; returns the seconds."""
        started = time.monotonic()
        process = self.start()
        try:
            while self.waiting():
                assert process.poll() is None, f"the process ended with {process.returncode}; see {self.log}"
                assert time.monotonic() - started < LAST_RUN_SECONDS, f"{self.waiting()} files never ended"
                time.sleep(0.2)
        finally:
            process.terminate()
            process.wait(30)
        return time.monotonic() - started

    def waiting(self) -> int:
        with self.database.read() as connection:
            query = sa.select(sa.func.count()).select_from(tables.attachments)
            return connection.execute(query.where(tables.attachments.c.status == "in_progress")).scalar_one()

    def embedded(self) -> int:
        return sum(map(int, self.record.read_text().split())) if self.record.exists() else 0

    def check(self) -> None:
        """Everything that the module's docstring promises."""
        embedder = Embedder()
        statuses: Counter[str] = Counter()
        for file_id, kind in self.ours.items():
            attached = self.attachments.get(self.store_id, file_id)
            statuses[f"{kind} {attached.status}"] += 1
            if attached.status == "failed":
                assert kind == "document", f"{attached.filename} failed: {attached.error_message}"
                assert attached.error_code != "server_error", f"{attached.filename}: {attached.error_message}"
                assert attached.error_message
                continue
            assert attached.status == "completed"
            self.check_chunks(file_id, embedder)
        with self.database.read() as connection:
            there = set(connection.execute(sa.select(tables.attachments.c.file_id)).scalars())
            numbers = set(connection.execute(sa.select(tables.attachments.c.number)).scalars())
            chunks = set(connection.execute(sa.select(tables.chunks.c.number)).scalars())
            windows = set(connection.execute(sa.select(tables.windows.c.number)).scalars())
            distinct = connection.execute(sa.select(sa.func.count()).select_from(tables.vectors)).scalar_one()
        assert there == set(self.ours), "a deleted file is in the store, or one is lost"
        assert chunks <= numbers, "chunks of a deleted file are left"
        assert windows <= numbers, "windows of a deleted file are left"
        self.check_vectors(embedder)
        again = self.embedded() - distinct
        n = sum(self.kills.values())
        assert again <= n * BATCH_WINDOWS, f"{again} windows were embedded again after {n} kills"
        print(f"files: {dict(statuses)}; kills: {dict(self.kills)}")
        print(f"{distinct} vectors; {again} windows embedded again, {again / max(1, n):.1f} for each kill")

    def check_chunks(self, file_id: str, embedder: Embedder) -> None:
        """The stored chunks are those of a reading that nobody disturbed."""
        file = self.files.get(file_id, None)
        document = parse_apart(self.files.path(file), file.filename, seconds=120, memory_bytes=2 * 1024**3)
        chunking = self.attachments.get(self.store_id, file_id).chunking
        expected = chunk(document, embedder.tokenizer, chunking, window_tokens=embedder.window_tokens)
        stored = self.attachments.content(self.store_id, file_id, limit=10**6).items
        assert [text for _, text in stored] == [one.text for one in expected], f"{file.filename} has other chunks"

    def check_vectors(self, embedder: Embedder) -> None:
        """Each row of the index is the vector of its own chunk's text: for those chunks that are one window."""
        delta = Changes(self.database).since(self.store_id, 0, fingerprint=embedder.fingerprint)
        texts = {one.chunk_id: one.text for one in delta.chunks}
        ids, counts = np.unique(delta.windows.chunk_ids, return_counts=True)
        assert set(texts) == set(ids.tolist()), "a chunk without a vector, or a vector without a chunk"
        single = set(ids[counts == 1].tolist())
        rows = [row for row, chunk_id in enumerate(delta.windows.chunk_ids.tolist()) if chunk_id in single]
        rows = self.dice.sample(rows, min(SAMPLE, len(rows)))
        made = embedder.embed_documents([texts[int(delta.windows.chunk_ids[row])] for row in rows])
        cosines = (made * delta.windows.vectors[rows]).sum(axis=1)
        assert cosines.min() > 0.999, f"a vector of another text: cosine {cosines.min():.4f}"


def main() -> None:
    """Fill, kill, finish, check; an AssertionError says what is wrong, with the seed."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--documents", type=Path, help="a folder of real files to read beside the generated ones")
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-ingestion-") as folder:
        proof = Proof(Path(folder), chosen.seed)
        print(f"seed {chosen.seed}", flush=True)
        with closing(proof.database):
            proof.fill(chosen.documents)
            started = time.monotonic()
            try:
                for _ in range(chosen.kills):
                    proof.kill_once()
                rest = proof.finish()
                proof.check()
            except BaseException:
                print(proof.log.read_text()[-4000:], file=sys.stderr)
                raise
        print(
            f"consistent after {chosen.kills} kills in {time.monotonic() - started:.0f} s, {rest:.0f} s of them to end"
        )


if __name__ == "__main__":
    main()
