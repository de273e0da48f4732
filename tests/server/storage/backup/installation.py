"""An installation with something in every table, as files and a database in one folder."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from safetensors.numpy import save_file

from adapters import manifest
from adapters.manifest import Manifest
from adapters.registry import Registry, Version
from adapters.training.folders import JobFolders
from adapters.training.job import Checkpoint, Job, JobFile
from adapters.training.jobs import Jobs, new_checkpoint_id, new_job_id
from adapters.training.method import Method
from retrieval import tables
from retrieval.search import Searcher
from server.storage.assistants import Assistants
from server.storage.backup import rows, schema
from server.storage.backup.making import Installation
from server.storage.backup.restoring import Empty
from server.storage.backup.rows import Counted
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.keys import Keys
from server.storage.responses import Responses, StoredResponse
from tests.retrieval.library import Library, found, texts_of
from tests.retrieval.shelf import Shelf

CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
QUESTIONS = ("When is the rent due?", "a tenant gives notice", "the night train")
TEXTS = ("The rent is due on the first of the month.", "A tenant gives notice, cão e ação.", "The night train leaves.")


class House:
    """Over a data directory, and over its SQLite file unless another database is given."""

    def __init__(self, data_dir: Path, url: str = "") -> None:
        self.data_dir = data_dir
        self.url = url or f"sqlite:///{data_dir / 'manyhats.db'}"
        self.database = Database(self.url)
        self.blobs = LocalBlobs(data_dir / "blobs")
        self.training = data_dir / "training"

    @property
    def installation(self) -> Installation:
        return Installation(
            database=self.database,
            blobs=self.blobs,
            data_dir=self.data_dir,
            training_dir=self.training,
            beside=("demo-installed.json", "not-there.json"),
        )

    @property
    def empty(self) -> Empty:
        return Empty(database=self.database, blobs=self.blobs, data_dir=self.data_dir, training_dir=self.training)

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.database, self.blobs)

    @property
    def registry(self) -> Registry:
        return Registry(self.database, self.blobs, base_name="demo", base_fingerprint="f" * 64)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.database)

    def fill(self) -> House:
        """Something in every table, and something that was deleted in most."""
        keys, responses = Keys(self.database), Responses(self.database)
        keys.create("ana", models=["a*"], requests_per_minute=3)
        keys.revoke(keys.create("bob")[0].key_id)
        Assistants(self.database).create({"name": "guide", "model": "demo", "metadata": {"z": "1", "a": "2"}})
        body: dict[str, Any] = {"zeta": [1.0, None, 10**20], "alpha": "NUL \0, half a pair \ud83d, ção"}
        responses.save(
            StoredResponse(
                id="resp_1",
                owner="ana",
                status="completed",
                model="demo",
                created_at=0.1 + 0.2,
                expires_at=9e9,
                body=body,
                input_items=({"text": "é"},),
            )
        )
        library = Library(self.shelf, self.data_dir / "unused")
        for text in TEXTS:
            library.put(library.store(text.split()[1]), [text, f"{text} Twice."], attributes={"page": 1.5})
        gone = self.shelf.attached(library.store("gone"))
        self.shelf.attachments.detach(gone.store_id, gone.file_id)
        self.shelf.reembeddings.request(self.stores()[0], "e" * 64)
        self.shelf.upload("only a file, not attached")
        with self.database.write() as connection:
            row = {"id": "vsfb_1", "store_id": self.stores()[0], "created_at": 1.0, "cancelled": False}
            connection.execute(tables.batches.insert().values(row))
            connection.execute(tables.stores.update().values(description="NUL \0, which is refused by now"))
        self.add_adapter("legal", seed=1)
        self.registry.remove(self.add_adapter("removed", seed=2).adapter)
        self.registry.collect()
        self.add_job("queued")
        self.add_job("succeeded")
        (self.data_dir / "demo-installed.json").write_text('["guide"]')
        return self

    def stores(self) -> list[str]:
        return sorted(store.id for store in self.shelf.stores.list(None).items)

    def add_adapter(self, name: str, *, seed: int) -> Version:
        """Of two real files, whose digest is theirs."""
        with self.blobs.staging() as folder:
            random = np.random.default_rng(seed)
            save_file({"a": random.standard_normal((4, 4), dtype=np.float32)}, folder / "adapter_model.safetensors")
            (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
            facts = Manifest(
                digest=manifest.digest(folder),
                rank=2,
                alpha=4.0,
                use_rslora=False,
                target_modules=("q_proj",),
                n_parameters=16,
                size_bytes=64,
                dtype="F32",
                declared_base=None,
                effect=0.25,
                modules=1,
            )
            return self.registry.add(name, folder, facts, source="upload")[0]

    def add_job(self, status: str) -> Job:
        """With its data where it is not over, and a checkpoint in its table and its folder."""
        file = self.shelf.upload(f'{{"text": "{secrets.token_hex(4)}"}}\n', purpose="fine-tune")
        told = JobFile(id=file.id, digest=file.digest, n_examples=1, n_tokens=3, n_trained_tokens=3)
        job = Job(
            id=new_job_id(),
            owner="ana",
            status="queued",
            created_at=1.0,
            base_name="demo",
            base_fingerprint="f" * 64,
            model="demo",
            suffix="clinica",
            method=Method(),
            seed=7,
            training=told,
        )
        if status == "queued":
            folder = JobFolders(self.training).make(job.id, self.shelf.files.path(file), None)
            (folder / "work" / "checkpoint-1").mkdir(parents=True)
            (folder / "work" / "checkpoint-1" / "optimizer.pt").write_text("large")
        self.jobs.create(replace(job, status=status))  # type: ignore[arg-type]  # one of the words
        self.jobs.add_checkpoint(
            Checkpoint(
                id=new_checkpoint_id(), job_id=job.id, created_at=1.0, step=1, version="v", metrics={}, base_name="demo"
            )
        )
        return job

    def held(self) -> dict[str, Counted]:
        """What each table has."""
        with self.database.read() as connection:
            return {table.name: rows.count(connection, table) for table in schema.tables(connection)}

    def numbers(self) -> dict[str, int]:
        """The last number given out, by table; tables that never had one are left out."""
        with self.database.read() as connection:
            found = schema.sequences(connection, schema.tables(connection))
        return {name: last for name, last in found.items() if last}

    def files(self) -> dict[str, bytes]:
        """Every blob's bytes, and those of jobs but for their checkpoints."""
        there = {key: self.blobs.path(key) for key in self.blobs.keys("")}
        found = {f"{key}/{path.name}": path.read_bytes() for key, folder in there.items() for path in folder.iterdir()}
        jobs = [path for path in self.training.rglob("*") if path.is_file() and "work" not in path.parts]
        return found | {str(path.relative_to(self.training)): path.read_bytes() for path in jobs}

    def answers(self, indexes: Path) -> list[list[tuple[str, float]]]:
        """What searches find, by each ranker, with indexes that are made for it."""
        searcher: Searcher = Library(self.shelf, indexes).searcher()
        stores = self.stores()
        hits = [
            found(searcher, stores, question, ranker=ranker)
            for question in QUESTIONS
            for ranker in ("hybrid", "dense", "lexical")
        ]
        searcher.close()
        assert all(texts_of(one) for one in hits)
        return [[(hit.passage.text, hit.score) for hit in one] for one in hits]

    def close(self) -> None:
        self.database.close()


def without_rows(database: Database) -> list[str]:
    """Tables that have none."""
    with database.read() as connection:
        tables = schema.tables(connection)
        return [table.name for table in tables if connection.execute(sa.select(table).limit(1)).first() is None]
