from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.callers import Caller
from server.storage.database import Database


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'data' / 'manyhats.db'}"


@pytest.fixture
def database(url: str, migrated: Path) -> Iterator[Database]:
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(mode=0o700)
    shutil.copyfile(migrated, path)
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def ana() -> Caller:
    return Caller(key_id="key_a", name="ana", role="inference", owner="ana")


@pytest.fixture
def bob() -> Caller:
    return Caller(key_id="key_b", name="bob", role="inference", owner="bob")


@pytest.fixture
def admin() -> Caller:
    return Caller(key_id="key_0", name="root", role="admin", owner="root")
