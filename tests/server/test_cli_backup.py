"""`manyhats backup`, `restore` and `migrate-data` as a person uses them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from server.cli import main
from server.storage.blobs import LocalBlobs
from server.storage.data_lock import DataLock
from server.storage.database import Database
from server.storage.file_lock import try_lock
from server.storage.keys import Keys
from tests.retrieval.shelf import Shelf

Manyhats = Callable[..., str]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an installation with a key and a file."""
    for name in list(os.environ):
        if name.startswith("MANYHATS_"):
            monkeypatch.delenv(name)
    data_dir = tmp_path / "data"
    monkeypatch.setenv("MANYHATS_DATA_DIR", str(data_dir))
    with closing(Database(f"sqlite:///{data_dir / 'manyhats.db'}")) as database:
        database.migrate()
        Keys(database).create("ci")
        Shelf(database, LocalBlobs(data_dir / "blobs")).upload("a text")
    (data_dir / "demo-installed.json").write_text("[]")
    return data_dir


@pytest.fixture
def manyhats(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Manyhats:
    """Run the command and return what it wrote; `status` is how it must end, and then all that it wrote comes."""

    def run(*words: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["manyhats", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert (ended.value.code or 0) == status, written.out + written.err
        return written.out + written.err if status else written.out

    return run


def names_of_keys(data_dir: Path) -> list[str]:
    with closing(Database(f"sqlite:///{data_dir / 'manyhats.db'}")) as database:
        return [key.caller.name for key in Keys(database).list()]


def test_there_and_back(manyhats: Manyhats, data_dir: Path, tmp_path: Path) -> None:
    to = tmp_path / "monday.tar"
    with DataLock(data_dir):  # as a server that runs has it
        assert "is complete" in manyhats("backup", to)
    assert "is whole" in manyhats("backup", "--verify", to)
    assert "is restored to" in manyhats("restore", to, "--data-dir", tmp_path / "new")
    assert names_of_keys(tmp_path / "new") == ["ci"]
    assert LocalBlobs(tmp_path / "new" / "blobs").keys() == LocalBlobs(data_dir / "blobs").keys()
    assert (tmp_path / "new" / "demo-installed.json").read_text() == "[]"
    assert "is there already" in manyhats("backup", to, status=1)
    assert "installation already" in manyhats("restore", to, "--data-dir", tmp_path / "new", status=1)


def test_what_it_says_to_programs(manyhats: Manyhats, data_dir: Path, tmp_path: Path) -> None:
    told = json.loads(manyhats("backup", tmp_path / "backup", "--json"))
    assert told["path"] == str(tmp_path / "backup")
    assert (told["missing"], told["damaged"]) == ([], [])
    assert told == json.loads(manyhats("backup", "--verify", tmp_path / "backup", "--json"))


def test_a_loss_is_told_and_ends_with_1(manyhats: Manyhats, data_dir: Path, tmp_path: Path) -> None:
    blobs = LocalBlobs(data_dir / "blobs")
    (key,) = blobs.keys()
    blobs.remove(key)
    said = manyhats("backup", tmp_path / "backup", status=1)
    assert "is complete" in said
    assert f"missing: blobs/{key}" in said


def test_a_damaged_backup_is_told(manyhats: Manyhats, data_dir: Path, tmp_path: Path) -> None:
    manyhats("backup", tmp_path / "backup")
    (content,) = (tmp_path / "backup" / "blobs").rglob("content")
    content.write_text("another")
    assert "is damaged" in manyhats("backup", "--verify", tmp_path / "backup", status=1)
    assert "is damaged" in manyhats("restore", tmp_path / "backup", "--data-dir", tmp_path / "new", status=1)


def test_without_an_installation_nothing_is_made(manyhats: Manyhats, data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "manyhats.db").unlink()
    assert "there is no installation" in manyhats("backup", tmp_path / "backup", status=1)
    assert "no SQLite database" in manyhats("migrate-data", "--to", "postgresql+psycopg://nobody/x", status=1)
    assert not (data_dir / "manyhats.db").exists()


def test_nothing_is_restored_or_moved_under_a_server(manyhats: Manyhats, data_dir: Path, tmp_path: Path) -> None:
    manyhats("backup", tmp_path / "backup")
    with DataLock(data_dir):
        assert "another server holds" in manyhats("restore", tmp_path / "backup", status=1)
        assert "another server holds" in manyhats("migrate-data", "--to", "postgresql+psycopg://nobody/x", status=1)


def test_nothing_is_moved_under_a_training_worker(manyhats: Manyhats, data_dir: Path) -> None:
    (data_dir / "workers").mkdir()
    held = os.open(data_dir / "workers" / "training-1.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        assert try_lock(held)
        said = manyhats("migrate-data", "--to", "postgresql+psycopg://nobody/x", status=1)
        assert "manyhats worker train" in said
    finally:
        os.close(held)


def test_where_to_move_must_be_said(manyhats: Manyhats, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--to" in manyhats("migrate-data", status=1)
    assert "no database URL" in manyhats("migrate-data", "--to", "elsewhere", status=1)
    monkeypatch.setenv("MANYHATS_DATABASE_URL", "not an URL")
    assert "no database URL" in manyhats("migrate-data", status=1)


def test_a_move_goes_to_postgresql(manyhats: Manyhats, data_dir: Path, tmp_path: Path) -> None:
    said = manyhats("migrate-data", "--to", f"sqlite:///{tmp_path / 'to.db'}", "--blobs-to", tmp_path / "b", status=1)
    assert "postgresql+psycopg" in said
    assert not (tmp_path / "b").exists()


def test_a_move_to_a_store_that_is_none_is_told(manyhats: Manyhats, data_dir: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MANYHATS_DATABASE_URL", "postgresql+psycopg://nobody@/nothing?host=/nowhere")
    assert "--blobs-to 'gopher://x' is no folder" in manyhats("migrate-data", "--blobs-to", "gopher://x", status=1)
