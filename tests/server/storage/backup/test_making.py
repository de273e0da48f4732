from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.storage.assistants import Assistants
from server.storage.backup.archive import reading
from server.storage.backup.checking import check
from server.storage.backup.making import Installation, back_up
from server.storage.backup.references import Blobs, references
from server.storage.backup.restoring import restore
from server.storage.blobs import LocalBlobs
from server.storage.errors import BackupFailed
from server.storage.keys import Keys
from tests.server.storage.backup.conftest import MakeHouse
from tests.server.storage.backup.installation import House


class Watched:
    """Blobs that tell of each time that one is asked for, before the answer."""

    def __init__(self, blobs: LocalBlobs, asked: Callable[[str], None]) -> None:
        self._blobs = blobs
        self._asked = asked

    def path(self, key: str) -> Path:
        self._asked(key)
        return self._blobs.path(key)


def watched(house: House, asked: Callable[[str], None]) -> Installation:
    blobs: Blobs = Watched(house.blobs, asked)
    return Installation(database=house.database, blobs=blobs, data_dir=house.data_dir, training_dir=house.training)


def restored(backup: Path, into: House) -> House:
    with reading(backup) as archive:
        check(archive)
        restore(archive, into.empty)
    return into


def dangling(house: House) -> list[str]:
    """What rows refer to and is not there."""
    with house.database.read() as connection:
        wanted = references(connection)
    gone = []
    for one in wanted:
        try:
            one.files(one.locate(house.blobs, house.training))
        except FileNotFoundError:
            gone.append(one.name)
    return gone


def test_the_manifest_says_what_it_holds(house: House, tmp_path: Path) -> None:
    made = back_up(house.installation, tmp_path / "backup", clock=lambda: 5.0)
    assert json.loads((tmp_path / "backup" / "manifest.json").read_text())["moment"] == made.moment == 5.0
    assert made.tables == house.held()
    assert (made.missing, made.damaged) == ((), ())
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert made.n_parts == len(files) - 2  # but for the list of them and the manifest itself
    assert not [path for path in files if path.stat().st_mode & 0o077]
    assert not [path for path in (tmp_path / "backup").rglob("*") if path.is_dir() and path.stat().st_mode & 0o077]


def test_a_file_that_is_deleted_meanwhile_is_in_no_part_of_it(
    house: House, make_house: MakeHouse, tmp_path: Path
) -> None:
    """Deleted after the rows were read, before its bytes were."""
    file = house.shelf.upload("a file that goes")
    once = [file.digest]

    def asked(key: str) -> None:
        if key == f"files/{file.digest}" and once:
            once.clear()
            house.shelf.files.delete(file.id, None)

    back_up(watched(house, asked), tmp_path / "backup")
    assert not once
    back = restored(tmp_path / "backup", make_house("back"))
    assert back.held() == house.held()
    assert back.files() == house.files()


def test_a_file_that_comes_and_goes_between_the_first_copies_and_the_moment(
    house: House, make_house: MakeHouse, tmp_path: Path
) -> None:
    """What is deleted at the moment itself makes a later moment necessary."""
    said: list[str] = []
    late: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        if what == "reading the database":
            late.extend(house.shelf.upload(f"late {n}").id for n in range(3))

    def asked(key: str) -> None:
        if late:
            house.shelf.files.delete(late.pop(), None)

    installation = watched(house, asked)
    made = back_up(installation, tmp_path / "backup", say=say)
    assert "reading the database" in said
    assert not late
    assert made.missing == ()
    back = restored(tmp_path / "backup", make_house("back"))
    assert back.held() == house.held()
    assert dangling(back) == []


def test_what_is_deleted_without_end_ends_it(house: House, tmp_path: Path) -> None:
    there = [house.shelf.upload("text 0")]

    def asked(key: str) -> None:
        if key == f"files/{there[-1].digest}":
            house.shelf.files.delete(there[-1].id, None)
            there.append(house.shelf.upload(f"text {len(there)}"))

    with pytest.raises(BackupFailed, match="faster than they could be copied"):
        back_up(watched(house, asked), tmp_path / "backup")
    assert list(tmp_path.glob("backup*")) == []


def test_what_was_lost_and_damaged_before_is_named(house: House, make_house: MakeHouse, tmp_path: Path) -> None:
    lost, damaged = house.blobs.keys("files/")[:2]
    (adapter,) = house.blobs.keys("adapters/")
    house.blobs.remove(lost)
    (house.blobs.path(damaged) / "content").write_text("damaged")
    (house.blobs.path(adapter) / "adapter_config.json").write_text("{}")
    made = back_up(house.installation, tmp_path / "backup")
    assert made.missing == (f"blobs/{lost}",)
    assert made.damaged == (f"blobs/{adapter}", f"blobs/{damaged}")
    back = restored(tmp_path / "backup", make_house("back"))
    assert back.files() == house.files()  # as they were, since nobody knows better


def test_a_file_whose_bytes_are_on_their_way_is_no_loss(house: House, make_house: MakeHouse, tmp_path: Path) -> None:
    keep = house.blobs.commit
    made = []

    class Slow(LocalBlobs):
        def commit(self, folder: Path, key: str) -> Path:
            made.append(back_up(house.installation, tmp_path / "backup"))
            return keep(folder, key)

    house.blobs = Slow(house.data_dir / "blobs")
    file = house.shelf.upload("still coming")
    assert made[0].missing == ()
    back = restored(tmp_path / "backup", make_house("back"))
    assert file.id not in [one.id for one in back.shelf.files.list(None).items]


def test_a_database_of_another_revision_is_told(house: House, make_house: MakeHouse, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="no installation"):
        back_up(make_house("nothing").installation, tmp_path / "backup")
    with house.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num='0002'")
    with pytest.raises(BackupFailed, match="'0002'"):
        back_up(house.installation, tmp_path / "backup")


@contextmanager
def writers(house: House) -> Iterator[list[Exception]]:
    """Threads that upload, attach, delete, register and remove until the block ends; what went wrong with them."""
    stop, wrong = threading.Event(), list[Exception]()

    def files(name: str) -> None:
        shelf, store = house.shelf, house.stores()[0]
        kept = []
        n = 0
        while not stop.is_set():
            n += 1
            file = shelf.upload(f"{name} {n}")
            shelf.attachments.attach(store, file.id)
            kept.append(file)
            if len(kept) > 3:
                shelf.files.delete(kept.pop(0).id, None)

    def adapters(name: str) -> None:
        n = 100
        while not stop.is_set():
            n += 1
            registry = house.registry
            registry.remove(house.add_adapter(f"{name}-{n}", seed=n).adapter)
            house.add_adapter(f"{name}-kept-{n}", seed=10_000 + n)
            registry.collect()

    def rest(name: str) -> None:
        keys, assistants = Keys(house.database), Assistants(house.database)
        n = 0
        while not stop.is_set():
            n += 1
            assistants.create({"name": f"{name}-{n}", "model": "demo"})
            keys.create(f"{name}-{n}")  # after its assistant, each time

    def run(work: Callable[[str], None], name: str) -> None:
        try:
            work(name)
        except Exception as error:
            wrong.append(error)

    works = [(files, "a"), (files, "b"), (adapters, "c"), (rest, "d")]
    threads = [threading.Thread(target=run, args=work) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("name", ["folder", "file.tar"])
def test_under_load_it_is_one_moment(house: House, make_house: MakeHouse, tmp_path: Path, name: str) -> None:
    with writers(house) as wrong:
        made = [back_up(house.installation, tmp_path / f"{n}-{name}") for n in range(3)]
    assert not wrong
    assert all((one.missing, one.damaged) == ((), ()) for one in made)
    assert made[0].tables["api_keys"].rows < made[-1].tables["api_keys"].rows  # the writers did write
    for n in range(3):
        back = restored(tmp_path / f"{n}-{name}", make_house(f"back-{n}"))
        assert dangling(back) == []
        n_keys, n_assistants = back.held()["api_keys"].rows - 2, back.held()["assistants"].rows - 1
        assert n_assistants - n_keys in (0, 1)
        assert {key.partition("/")[0] for key in back.blobs.keys("")} == {"files", "adapters"}
        back.close()
