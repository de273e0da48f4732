"""A database that is away is looked for often and told of once; what fails otherwise is tried less and less."""

from __future__ import annotations

import logging

import pytest

from server.pauses import AWAY_SECONDS, LONGEST_SECONDS, Pauses
from server.storage.errors import BlobsUnavailable, DatabaseFull, DatabaseUnavailable, StorageError

logger = logging.getLogger("manyhats.tests")


def test_a_database_that_is_away_is_looked_for_every_second_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    pauses = Pauses("reading", logger)
    with caplog.at_level(logging.INFO, logger.name):
        assert {pauses.after(DatabaseUnavailable("gone")) for _ in range(100)} == {AWAY_SECONDS}
        pauses.worked()
        pauses.worked()
    assert [record.getMessage() for record in caplog.records] == [
        "reading waits for the database: gone",
        "reading goes on",
    ]


@pytest.mark.parametrize("error", [ValueError("x"), BlobsUnavailable("x"), DatabaseFull("x")])
def test_what_fails_otherwise_is_tried_less_and_less(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    pauses = Pauses("reading", logger)
    assert [pauses.after(error) for _ in range(8)] == [1, 2, 4, 8, 16, 32, LONGEST_SECONDS, LONGEST_SECONDS]
    assert all(record.exc_info for record in caplog.records)
    assert len(caplog.records) == 8


def test_after_work_the_next_failure_is_the_first(caplog: pytest.LogCaptureFixture) -> None:
    pauses = Pauses("reading", logger)
    for _ in range(5):
        pauses.after(StorageError("x"))
    pauses.after(DatabaseUnavailable("gone"))
    pauses.worked()
    assert pauses.after(StorageError("x")) == 1
