from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.callers import Caller
from server.storage.database import Database


@pytest.fixture
def url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database that is empty, unless the test asks for `database` too, which then is this one."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'manyhats.db'}"
        return
    from tests.postgresql import EMPTY, MIGRATED

    wanted = MIGRATED if "database" in request.fixturenames else EMPTY
    with request.getfixturevalue("postgresql").fresh(wanted) as url:
        yield url


@pytest.fixture
def database(database_kind: str, url: str, migrated: Path) -> Iterator[Database]:
    if database_kind == "sqlite":
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
