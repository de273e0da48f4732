"""The one history of the tables, for the server's, the adapters' and retrieval's together; alembic runs it.

`python -m server.storage.migrations "what changes"` drafts the next step from the tables' definitions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from adapters import tables as adapter_tables
from adapters.training import tables as training_tables
from retrieval import tables as retrieval_tables
from server.storage import tables
from server.storage.errors import DatabaseNewer, DatabaseUnfinished

assert training_tables.jobs.metadata is adapter_tables.metadata  # imported, so that its tables are in there
METADATA = [adapter_tables.metadata, retrieval_tables.metadata, tables.metadata]
MOVING = "moving-"  # in place of the revision, with whose: the rows of another database are being copied into this one


def config(connection: sa.Connection | None) -> Config:
    """Alembic's configuration, over a connection whose transaction the caller ends; None to look at the steps only."""
    made = Config()
    made.set_main_option("script_location", "server.storage:migrations")
    made.attributes["connection"] = connection
    return made


def steps() -> ScriptDirectory:
    """The history itself."""
    return ScriptDirectory.from_config(config(None))


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Run the steps that this database lacks, inside the connection's transaction.

    Raises DatabaseNewer when it has steps that this code does not know, DatabaseUnfinished when a move into it was
    begun and not ended.
    """
    try:
        command.upgrade(config(connection), revision)
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        if str(error.__cause__.argument).startswith(MOVING):
            raise DatabaseUnfinished(
                "an installation is being moved into this database and not all of it is there yet; "
                "run the same `manyhats migrate-data` again until it says that it is done"
            ) from error
        raise DatabaseNewer(
            f"the database was written by a newer manyhats ({error.__cause__.argument!r} is unknown here); "
            "start that version, or give another MANYHATS_DATA_DIR"
        ) from error
