from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from server.storage import migrations
from server.storage.database import Database
from server.storage.migrations import METADATA
from tests.databases import only_sqlite


def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": METADATA})
        assert compare_metadata(context, METADATA) == []


def test_the_comparison_would_see_a_difference(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE responses ADD COLUMN surplus INTEGER")
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": METADATA})
        assert [difference[0] for difference in compare_metadata(context, METADATA)] == ["remove_column"]


@only_sqlite
@pytest.mark.parametrize("table", ["versions", "vector_store_files", "chunks", "vectors", "windows"])
def test_ids_are_never_given_out_twice(database: Database, table: str) -> None:
    """Autogenerate does not compare this option. vLLM would serve other weights, an index find another chunk's text."""
    with database.read() as connection:
        made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).scalar_one()
    assert "AUTOINCREMENT" in made


def test_the_history_is_one_line(database: Database) -> None:
    with database.read() as connection:
        script = ScriptDirectory.from_config(migrations.config(connection))
    assert len(script.get_heads()) == 1
    numbers = [revision.revision for revision in script.walk_revisions()]
    assert sorted(numbers, reverse=True) == numbers
    files = {path.name[:4] for path in (Path(migrations.__file__).parent / "versions").glob("[0-9]*.py")}
    assert files == set(numbers)


def test_a_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (x INTEGER)")
        raise RuntimeError

    database = Database(url)
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "upgrade", breaks)
        with pytest.raises(RuntimeError):
            database.migrate()
    with database.read() as connection:
        assert sa.inspect(connection).get_table_names() == []
    database.migrate()
    database.close()
