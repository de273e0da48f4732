from __future__ import annotations

import pytest

from adapters.errors import AdapterNotFound, NameInvalid, VersionAmbiguous
from adapters.names import check_name, find_digest, shown, split, split_permanent

A = "abcdef01" + "0" * 56
B = "abcdef02" + "0" * 56


@pytest.mark.parametrize("name", ["a", "7", "legal-pt", "org:legal_2.1", "x" * 96])
def test_good_names(name: str):
    check_name(name)


@pytest.mark.parametrize("name", ["", "-a", ".hidden", "../x", "a/b", "a@b", "a b", "a\n", "ação", "x" * 97, "a\0"])
def test_bad_names(name: str):
    with pytest.raises(NameInvalid, match="1 to 96"):
        check_name(name)


def test_a_name_cannot_look_like_a_permanent_one():
    with pytest.raises(NameInvalid, match="permanent names of versions"):
        check_name("ft:demo::legal:abcdef")


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("ft:demo::legal:0123456789ab", ("demo", "legal@0123456789ab")),
        ("ft:Qwen/Qwen3-0.6B::org:legal_2.1:ABCDEF", ("Qwen/Qwen3-0.6B", "org:legal_2.1@ABCDEF")),
        (f"ft:demo::a::b:{A}", ("demo", f"a::b@{A}")),
        ("legal@abcdef", None),
        ("ft:demo::legal", None),
        ("ft:demo::legal:abcde", None),
        ("ft:demo:legal:abcdef", None),
        ("ft:::legal:abcdef", None),
        ("ft:demo::../x:abcdef", None),
        ("ft:demo::legal:abcdef\n", None),
        (f"ft:demo::legal:{A}0", None),
    ],
)
def test_a_permanent_name_says_base_adapter_and_version(model: str, parts: tuple[str, str] | None):
    assert split_permanent(model) == parts


def test_the_version_follows_the_first_at():
    assert split("legal") == ("legal", None)
    assert split("legal@ABCDEF") == ("legal", "abcdef")
    assert split("legal@") == ("legal", "")
    assert split("legal@ab@cd") == ("legal", "ab@cd")


def test_a_unique_prefix_of_six_digits_is_enough():
    assert find_digest("legal", "abcdef01", [A, B]) == A
    assert find_digest("legal", "abcdef", [A]) == A
    assert find_digest("legal", B, [A, B]) == B


def test_an_ambiguous_prefix_lists_its_matches():
    with pytest.raises(VersionAmbiguous, match=f"matches 2 versions: legal@{A}, legal@{B}"):
        find_digest("legal", "abcdef0", [B, A])


@pytest.mark.parametrize("prefix", ["", "abcde", "zzzzzz", "abcdef ", "../../", "a" * 65, "ab@cdef"])
def test_what_cannot_be_a_prefix_is_said_to_be_none(prefix: str):
    with pytest.raises(NameInvalid, match="6 to 64 hex digits"):
        find_digest("legal", prefix, [A])


def test_a_prefix_of_nothing_is_not_found():
    with pytest.raises(AdapterNotFound, match="no version 'ffffff'"):
        find_digest("legal", "ffffff", [A])


def test_messages_quote_and_shorten_what_clients_send():
    assert shown("a\n") == r"'a\n'"
    assert len(shown("x" * 10_000)) < 110
