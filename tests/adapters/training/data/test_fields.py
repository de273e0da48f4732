from __future__ import annotations

import pytest

from adapters.training.data.fields import boolean, check_format, check_keys
from adapters.training.errors import DataInvalid


def test_the_key_that_was_probably_meant_is_named() -> None:
    check_keys({"role": 1}, ("role", "content"), where="messages[0]", line=1)
    with pytest.raises(DataInvalid, match=r"messages\[0\] has an unknown key 'contnt'; did you mean 'content'\?"):
        check_keys({"contnt": 1}, ("role", "content"), where="messages[0]", line=1)
    with pytest.raises(DataInvalid, match="known: content, role"):
        check_keys({"z": 1}, ("role", "content"), where="messages[0]", line=1)


def test_a_line_of_its_own_format_may_have_keys_of_another() -> None:
    check_format({"messages": [], "text": ""}, "supervised", line=1)  # the unknown key is named later
    check_format({}, "dpo", line=1)


def test_only_true_and_false_are_booleans() -> None:
    assert [boolean({"a": value}, "a", where="x", line=1) for value in (True, False, None)] == [True, False, None]
    with pytest.raises(DataInvalid, match=r"x\.a is a string"):
        boolean({"a": "true"}, "a", where="x", line=1)
