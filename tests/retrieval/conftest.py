from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from tests.retrieval.shelf import Shelf


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def shelf(database: Database, tmp_path: Path) -> Shelf:
    return Shelf(database, LocalBlobs(tmp_path / "blobs"))
