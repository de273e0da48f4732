from __future__ import annotations

import errno

import pytest

from adapters.errors import AdapterRefused, NameTaken
from server.storage.errors import DatabaseFull, DatabaseUnavailable
from server.training_failure import LONGEST_MESSAGE, failure, is_disk_full


def test_what_cannot_be_served_says_so() -> None:
    told = failure(AdapterRefused("no_effect", "it changes nothing"))
    assert (told.code, told.message) == ("no_effect", "what was trained cannot be served: it changes nothing")


def test_a_name_that_was_taken_meanwhile() -> None:
    assert failure(NameTaken("it is an assistant")).code == "publication_failed"


def test_a_long_message_is_cut() -> None:
    assert len(failure(RuntimeError("x" * 10_000)).message) == LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (DatabaseFull("full"), True),
        (RuntimeError("unexpected pos 64: No space left on device (os error 28)"), True),
        (DatabaseUnavailable("busy"), False),
        (OSError(errno.EIO, "broken"), False),
    ],
)
def test_a_full_disk_is_told_from_other_troubles(error: Exception, is_full: bool) -> None:
    assert is_disk_full(error) == is_full


def test_a_full_disk_behind_another_error() -> None:
    error = ValueError("could not be saved")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert is_disk_full(error)
