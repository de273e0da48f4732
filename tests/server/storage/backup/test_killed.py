"""`kill -9` while a backup is made or restored, at any point: what is there is whole, and the next attempt works."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from server.storage.backup import schema
from server.storage.backup.archive import reading
from server.storage.backup.checking import check
from server.storage.backup.making import back_up
from server.storage.backup.restoring import restore
from tests.server.storage.backup.conftest import MakeHouse
from tests.server.storage.backup.installation import House

MAKER = """
import sys
from pathlib import Path
from server.storage.backup.making import Installation, back_up
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

data = Path(sys.argv[1])
installation = Installation(database=Database(f"sqlite:///{data / 'manyhats.db'}"), blobs=LocalBlobs(data / "blobs"),
                            data_dir=data, training_dir=data / "training")
print("begun", flush=True)
back_up(installation, Path(sys.argv[2]))
"""

RESTORER = """
import sys
from pathlib import Path
from server.storage.backup.archive import reading
from server.storage.backup.restoring import Empty, restore
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

data = Path(sys.argv[1])
into = Empty(database=Database(f"sqlite:///{data / 'manyhats.db'}"), blobs=LocalBlobs(data / "blobs"), data_dir=data,
             training_dir=data / "training")
print("begun", flush=True)
with reading(Path(sys.argv[2])) as archive:
    restore(archive, into)
"""

KILLS = [2, pytest.param(40, marks=pytest.mark.prove)]


def killed(program: str, *arguments: Path, within: float) -> bool:
    """Whether the program was killed before its end, so many seconds after it had begun."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "begun\n"
    try:
        child.wait(within)
    except subprocess.TimeoutExpired:
        child.kill()
    child.stdout.close()
    return child.wait() < 0


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("name", ["folder", "file.tar"])
def test_a_backup_is_whole_or_not_there(house: House, tmp_path: Path, name: str, kills: int) -> None:
    chance = random.Random(20)
    to = tmp_path / "backups" / name
    n_killed = 0
    for _ in range(kills):
        n_killed += killed(MAKER, house.data_dir, to, within=chance.uniform(0.0, 0.4))
        if to.exists():
            with reading(to) as archive:
                assert check(archive).tables == house.held()
            to = to.with_name(f"again-{n_killed}-{to.name}")
    assert n_killed
    back_up(house.installation, to)
    with reading(to) as archive:
        assert check(archive).tables == house.held()
    assert list(to.parent.glob("*.part")) == []


@pytest.mark.parametrize("kills", KILLS)
def test_a_restoration_is_whole_or_no_installation(
    house: House, make_house: MakeHouse, tmp_path: Path, kills: int
) -> None:
    chance = random.Random(21)
    back_up(house.installation, tmp_path / "backup")
    n_killed = n_rounds = 0
    back = make_house(f"back-{n_rounds}")
    for _ in range(kills):
        n_killed += killed(RESTORER, back.data_dir, tmp_path / "backup", within=chance.uniform(0.0, 0.8))
        with back.database.read() as connection:
            is_there = not schema.is_empty(connection)
        if is_there:
            back.database.migrate()
            assert back.held() == house.held()
            assert back.files() == house.files()
            n_rounds += 1
            back = make_house(f"back-{n_rounds}")
    assert n_killed
    with reading(tmp_path / "backup") as archive:
        restore(archive, back.empty)
    assert back.held() == house.held()
    assert back.files() == house.files()
