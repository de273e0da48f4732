from __future__ import annotations

from pathlib import Path

from deploy.ray.folder import ReplicaFolder, shared_database
from server.settings import load_settings


def settings(data_dir: Path, **more: str):
    return load_settings({"MANYHATS_DATA_DIR": str(data_dir), **more})


def test_each_replica_has_a_folder_of_its_own_and_the_first_free_one(tmp_path: Path):
    first, second = (ReplicaFolder.take(settings(tmp_path)) for _ in range(2))
    assert (first.number, second.number) == (0, 1)
    assert first.settings.index_dir != second.settings.index_dir
    first.close()
    third = ReplicaFolder.take(settings(tmp_path))
    assert third.number == 0
    second.close()
    third.close()


def test_what_belongs_to_all_is_the_same_in_each(tmp_path: Path):
    first, second = (ReplicaFolder.take(settings(tmp_path)) for _ in range(2))
    for folder in (first, second):
        assert not folder.settings.is_alone
        assert folder.settings.sql_url == f"sqlite:///{tmp_path.resolve() / 'manyhats.db'}"
        for name in ("blobs", "training", "cache/base", "cache/blobs", "cache/embedder"):
            assert (folder.settings.data_dir / name).resolve() == (tmp_path / name).resolve()
    (first.settings.training_dir / "job").mkdir()
    assert (second.settings.training_dir / "job").is_dir()
    first.close()
    second.close()


def test_a_database_by_url_stays_as_it_is(tmp_path: Path):
    url = "postgresql+psycopg://manyhats:secret@db/manyhats"
    given = settings(tmp_path, MANYHATS_DATABASE_URL=url)
    assert shared_database(given) == url
    folder = ReplicaFolder.take(given)
    assert folder.settings.sql_url == url
    folder.close()
