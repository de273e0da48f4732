"""Draft the next migration: the difference between a fresh database and the tables' definitions."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command

from server.storage import migrations
from server.storage.database import Database


def main(message: str) -> None:
    """Write `versions/<number>_<message>.py`, to be read and corrected by its author."""
    versions = Path(__file__).parent / "versions"
    number = f"{len(list(versions.glob('[0-9]*.py'))) + 1:04}"
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/draft.db")
        if number != "0001":
            database.migrate()
        with database.write() as connection:
            command.revision(migrations.config(connection), message, autogenerate=True, rev_id=number)
        database.close()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
