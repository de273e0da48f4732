"""What was answered before it was written is written when the database is back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server import patient_writes
from server.patient_writes import write_patiently
from server.storage.errors import DatabaseUnavailable


def absent(times: int, error: Exception, write: Callable[..., Any] = str) -> Callable[..., Any]:
    """`write` behind a database that fails so many times before."""
    left = [error] * times

    def called(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return write(*args, **kwargs)

    return called


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_writes, "AGAIN_SECONDS", 0.0)


async def test_it_is_written_when_the_database_is_back() -> None:
    assert await write_patiently(None, 60, absent(5, DatabaseUnavailable("gone")), b"x", encoding="ascii") == "x"


async def test_patience_ends() -> None:
    with pytest.raises(DatabaseUnavailable):
        await write_patiently(None, 0.0, absent(1, DatabaseUnavailable("gone")))


async def test_what_fails_otherwise_is_not_tried_again() -> None:
    with pytest.raises(ValueError, match="wrong"):
        await write_patiently(None, 60, absent(1, ValueError("wrong")))
