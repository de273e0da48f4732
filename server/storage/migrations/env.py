"""What alembic runs for every command; the connection comes from `migrations.config`, there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from server.storage.migrations import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite changes columns by copying the table
)
context.run_migrations()
