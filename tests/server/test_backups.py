"""Where the blobs of a bucket lie while a backup of it is made or brought back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from server import backups
from server.blobs import open_blobs
from server.settings import Settings
from server.storage.database import Database
from server.storage.shared_blobs import SharedBlobs
from tests.retrieval.shelf import Shelf

TEXTS = ("one", "two", "three")


@pytest.fixture
def settings(tmp_path: Path, bucket: str) -> Settings:
    """Of a server that has fetched nothing yet, over a database and a bucket that another filled."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    filler = Settings(data_dir=tmp_path / "filler", database_url=url, blob_url=f"{bucket}/kept")
    with closing(Database(url)) as database:
        database.migrate()
        shelf = Shelf(database, open_blobs(filler))  # type: ignore[arg-type]  # it has what files need
        for text in TEXTS:
            shelf.upload(text)
    return filler.model_copy(update={"data_dir": tmp_path / "data"})


@pytest.fixture
def n_copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """How many copies there were in any data directory but the filler's, whenever a blob was had or stored."""
    counts: list[int] = []

    def counted(name: str) -> None:
        really = getattr(SharedBlobs, name)

        def call(*args: object) -> object:
            found = really(*args)
            counts.append(len([path for path in copies(tmp_path) if "filler" not in path.parts]))
            return found

        monkeypatch.setattr(SharedBlobs, name, call)

    counted("path")
    counted("commit")
    return counts


def copies(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("cache/blobs/**/content") if path.is_file()]


def test_a_bucket_goes_through_the_disk_one_blob_at_a_time(
    settings: Settings, n_copies: list[int], tmp_path: Path, bucket: str
) -> None:
    said: list[str] = []
    manifest = backups.make(settings, tmp_path / "backup.tar", say=said.append)
    assert (manifest.missing, manifest.damaged) == ((), ())
    assert n_copies == [1] * len(TEXTS)
    assert copies(settings.data_dir) == []

    n_copies.clear()
    new = Settings(data_dir=tmp_path / "new", blob_url=f"{bucket}/brought-back")
    backups.bring_back(new, tmp_path / "backup.tar", say=said.append)
    assert n_copies == [1] * len(TEXTS)
    assert copies(new.data_dir) == []
    assert open_blobs(new).keys() == open_blobs(settings).keys()


def test_the_server_s_own_copies_stay(settings: Settings, tmp_path: Path) -> None:
    blobs = open_blobs(settings)
    paths = [blobs.path(key) for key in blobs.keys("files/")]
    backups.make(settings, tmp_path / "backup", say=lambda _: None)
    assert all((path / "content").is_file() for path in paths)
