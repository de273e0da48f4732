"""The server's tables. Adapters have their own; both sets are in one history of migrations.

Times are Unix seconds, UTC. JSON is `sa.JSON`, which keeps the order of keys on SQLite and PostgreSQL.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

feed = sa.Table(
    "feed",
    metadata,
    sa.Column("topic", sa.String(32), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(96), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),  # of the secret, which is kept nowhere
    sa.Column("last4", sa.String(4), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("owner", sa.String(96), nullable=False),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("stores", sa.JSON, nullable=False),
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("tokens_per_minute", sa.Integer),
    sa.Column("max_concurrent", sa.Integer),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
)

responses = sa.Table(
    "responses",
    metadata,
    sa.Column("id", sa.String(96), primary_key=True),
    sa.Column("owner", sa.String(96), nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("background", sa.Boolean, nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("previous_response_id", sa.String(96)),  # no foreign key: a chain outlives a deleted link
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("input_items", sa.JSON, nullable=False),
)

assistants = sa.Table(
    "assistants",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(96), nullable=False, unique=True),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("fields", sa.JSON, nullable=False),  # everything else that the client sent
)
