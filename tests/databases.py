"""Which databases a test runs over: SQLite and PostgreSQL, unless its subject is one of them."""

from __future__ import annotations

import pytest

BOTH = ("sqlite", "postgresql")
only_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
