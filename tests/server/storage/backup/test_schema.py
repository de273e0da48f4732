from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from server.storage import migrations
from server.storage.backup import schema
from server.storage.database import Database
from server.storage.errors import BackupInvalid, DatabaseUnfinished
from tests.server.storage.backup.conftest import MakeHouse
from tests.server.storage.backup.installation import House


def test_every_table_of_ours_after_those_that_it_refers_to(house: House) -> None:
    with house.database.read() as connection:
        tables = schema.tables(connection)
    names = [table.name for table in tables]
    assert sorted(names) == sorted(table.name for metadata in migrations.METADATA for table in metadata.sorted_tables)
    assert "alembic_version" not in names
    for table in tables:
        for key in table.foreign_keys:
            assert names.index(key.column.table.name) < names.index(table.name)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with database.read() as connection:
        assert schema.is_empty(connection)
        assert schema.revision(connection) is None
        assert schema.sequences(connection, []) == {}
        with pytest.raises(BackupInvalid, match="no table adapters"):
            schema.tables(connection, ["adapters"])
    database.close()


def test_the_revisions() -> None:
    assert schema.head() in schema.known_revisions()
    assert "0001" in schema.known_revisions()


def test_numbers_go_on_after_the_largest(house: House) -> None:
    with house.database.write() as connection:
        tables = schema.tables(connection)
        assert schema.sequences(connection, tables)["versions"] == 2  # the second was removed
        schema.set_sequences(connection, tables, {"versions": 40, "chunks": 1})
        largest = connection.execute(sa.text("SELECT max(id) FROM chunks")).scalar_one()
        last = schema.sequences(connection, tables)
        assert (last["versions"], last["chunks"]) == (40, largest)
    assert house.add_adapter("next", seed=5).lora_id == 41


def test_numbers_on_postgresql(make_house: MakeHouse, postgresql_url: str) -> None:
    there = make_house("there", postgresql_url)
    there.database.migrate()
    with there.database.write() as connection:
        tables = schema.tables(connection)
        assert schema.sequences(connection, tables)["versions"] == 0
        assert "removals" not in schema.sequences(connection, tables)  # their numbers are the attachments'
        schema.set_sequences(connection, tables, {"versions": 40, "chunks": 0})
        assert schema.sequences(connection, tables)["versions"] == 40
    assert there.add_adapter("next", seed=5).lora_id == 41


def test_no_server_starts_where_a_move_is_not_done(house: House) -> None:
    with house.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num='{migrations.MOVING}1234'")
    with pytest.raises(DatabaseUnfinished, match="manyhats migrate-data"):
        house.database.migrate()
