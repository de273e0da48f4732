from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.manifest import Manifest
from adapters.registry import Registry
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

Stage = Callable[[str], tuple[Path, Manifest]]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database's file, made once: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("database") / "manyhats.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{shutil.copy(migrated, tmp_path)}")
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def registry(database: Database, blobs: LocalBlobs) -> Registry:
    clock = itertools.count(1_000.0)
    return Registry(
        database,
        blobs,
        base_name="demo",
        base_fingerprint="f" * 64,
        reserved=lambda name: name in {"demo", "embedder"},
        clock=lambda: next(clock),
        max_pins=2,
    )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Make a folder with two files, and a manifest as the preflight would give it; the same word, the same bytes."""
    count = itertools.count()

    def made(word: str) -> tuple[Path, Manifest]:
        folder = tmp_path / f"staged-{next(count)}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"r": 8}')
        (folder / "adapter_model.safetensors").write_text(word)
        manifest = Manifest(
            digest=hashlib.sha256(word.encode()).hexdigest(),
            rank=8,
            alpha=16.0,
            use_rslora=False,
            target_modules=("q_proj", "v_proj"),
            n_parameters=1024,
            size_bytes=len(word),
            dtype="F32",
            declared_base="some/base",
            warnings=("made for 'some/base'",),
            effect=0.25,
            modules=8,
            details={"conversion": {"rank": 8}},
        )
        return folder, manifest

    return made
