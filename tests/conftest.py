"""What takes long and is the same for every test: made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.storage.database import Database


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with all tables and no rows: its many writes to the disk are most of a test's time."""
    path = tmp_path_factory.mktemp("migrated") / "manyhats.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="session")
def embedder_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundled embedder lies converted, from run to run: converting it takes seconds, and torch.

    How it is converted is tested in tests/retrieval/test_embedding_backends.py, without this.
    """
    cache = getattr(pytestconfig, "cache", None)  # None with `-p no:cacheprovider`
    return tmp_path_factory.mktemp("embedder") if cache is None else Path(cache.mkdir("embedder"))
