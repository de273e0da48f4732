"""A database's tables as they are there, of whatever revision, and the numbers that it gives out next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql

from server.storage import migrations
from server.storage.backup.rows import key_of
from server.storage.errors import BackupInvalid

OURS = frozenset(table.name for metadata in migrations.METADATA for table in metadata.sorted_tables)


def head() -> str:
    """The revision that this manyhats works with."""
    return str(migrations.steps().get_current_head())


def known_revisions() -> frozenset[str]:
    """Every revision that this manyhats can bring up to its own."""
    return frozenset(step.revision for step in migrations.steps().walk_revisions())


def revision(connection: sa.Connection) -> str | None:
    """The database's; None where there is none of our tables."""
    return MigrationContext.configure(connection).get_current_revision()


def is_empty(connection: sa.Connection) -> bool:
    """Whether no installation has its tables here; those of other programs do not count."""
    return not OURS.intersection(sa.inspect(connection).get_table_names())


def tables(connection: sa.Connection, names: Collection[str] = OURS) -> list[sa.Table]:
    """These tables, each after those that it refers to. Raises BackupInvalid when one is not there."""
    missing = sorted(set(names).difference(sa.inspect(connection).get_table_names()))
    if missing:
        raise BackupInvalid(f"the database has no table {', '.join(missing)}")
    metadata = sa.MetaData()
    metadata.reflect(connection, only=sorted(names), resolve_fks=False)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, sa.JSON):  # so that what is NULL stays NULL, and JSON's null stays that
                column.type = sa.JSON(none_as_null=bool(column.nullable))
    return metadata.sorted_tables


def sequences(connection: sa.Connection, of: Sequence[sa.Table]) -> dict[str, int]:
    """The largest number that was ever given out, by table: it may be larger than any that is left."""
    if connection.dialect.name == "sqlite":
        there = sa.text("SELECT name FROM sqlite_master WHERE name = 'sqlite_sequence'")
        if connection.execute(there).first() is None:
            return {}
        names = {table.name for table in of}
        rows = connection.execute(sa.text("SELECT name, seq FROM sqlite_sequence")).all()
        return {name: int(last) for name, last in rows if name in names}
    found = {}
    for table in of:
        sequence = _sequence(connection, table)
        if sequence is not None:
            row = connection.execute(sa.text(f"SELECT last_value, is_called FROM {sequence}")).one()  # noqa: S608  # the catalogue's own, quoted name
            found[table.name] = int(row.last_value) if row.is_called else 0
    return found


def set_sequences(connection: sa.Connection, of: Sequence[sa.Table], last: Mapping[str, int]) -> None:
    """Go on after these numbers, and after every one that is in use."""
    for table in of:
        if table.name not in last:
            continue
        largest = connection.execute(sa.select(sa.func.max(key_of(table)))).scalar() or 0
        value = max(last[table.name], largest)
        if connection.dialect.name == "sqlite":
            connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
            row = {"name": table.name, "last": value}
            connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), row)
        elif value > 0:
            named = sa.cast(_sequence(connection, table), postgresql.REGCLASS)
            connection.execute(sa.select(sa.func.setval(named, value)))


def _sequence(connection: sa.Connection, table: sa.Table) -> str | None:
    """PostgreSQL's name of what numbers the rows of a table; None where its key is given by us."""
    asked = sa.select(sa.func.pg_get_serial_sequence(table.name, key_of(table).name))
    name: str | None = connection.execute(asked).scalar()
    return name
