from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.storage.backup.installation import House

if TYPE_CHECKING:
    from tests.postgresql import Server

MakeHouse = Callable[..., House]


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[MakeHouse]:
    """An installation without tables under a name, at an URL of its own where one is given."""
    made: list[House] = []

    def make(name: str, url: str = "") -> House:
        (tmp_path / name).mkdir(mode=0o700, exist_ok=True)
        made.append(House(tmp_path / name, url))
        return made[-1]

    yield make
    for house in made:
        house.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    """The data directory of an installation with something in every table; it is copied, because it takes seconds."""
    data_dir = tmp_path_factory.mktemp("filled")
    shutil.copyfile(migrated, data_dir / "manyhats.db")
    house = House(data_dir).fill()
    house.close()
    return data_dir


@pytest.fixture
def house(make_house: MakeHouse, tmp_path: Path, filled: Path) -> House:
    """Such an installation, for this test alone."""
    shutil.copytree(filled, tmp_path / "data")
    return make_house("data")


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
    """A database without tables."""
    with postgresql.fresh("template0") as url:
        yield url
