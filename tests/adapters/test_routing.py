from __future__ import annotations

import math
from collections import Counter

import pytest

from adapters.errors import AliasInvalid
from adapters.routing import Route, check_weights, traffic_from

CALLERS = [f"user-{number}" for number in range(20_000)]


def test_one_version_takes_everything():
    route = Route.of((("a", 3),))
    assert {route.choose("legal", caller) for caller in ("", "x", "y")} == {"a"}


def test_shares_follow_the_weights():
    route = Route.of((("a", 90), ("b", 9.5), ("c", 0.5)))
    shares = Counter(route.choose("legal", caller) for caller in CALLERS)
    for digest, share in (("a", 0.9), ("b", 0.095), ("c", 0.005)):
        # four standard deviations of a fair draw
        assert abs(shares[digest] / len(CALLERS) - share) < 4 * math.sqrt(share * (1 - share) / len(CALLERS))


def test_a_caller_stays_with_its_version():
    first = Route.of((("a", 1), ("b", 1)))
    again = Route.of((("a", 50), ("b", 50)))
    assert [first.choose("legal", c) for c in CALLERS[:500]] == [again.choose("legal", c) for c in CALLERS[:500]]


def test_a_ramp_moves_only_the_callers_that_it_must():
    before, after = Route.of((("old", 90), ("new", 10))), Route.of((("old", 80), ("new", 20)))
    moves = Counter((before.choose("legal", caller), after.choose("legal", caller)) for caller in CALLERS)
    assert moves["new", "old"] == 0
    assert 0.09 < moves["old", "new"] / len(CALLERS) < 0.11


def test_the_first_callers_of_one_canary_are_not_those_of_another():
    route = Route.of((("old", 90), ("new", 10)))
    legal = {caller for caller in CALLERS if route.choose("legal", caller) == "new"}
    medical = {caller for caller in CALLERS if route.choose("medical", caller) == "new"}
    assert len(legal & medical) < 0.2 * len(legal)


def test_any_text_is_a_sticky_key():
    route = Route.of((("a", 1), ("b", 1)))
    assert route.choose("legal", "\ud800") in {"a", "b"}
    assert route.choose("legal", "") in {"a", "b"}


def test_the_last_version_gets_what_rounding_leaves():
    weights = tuple((str(number), 0.1) for number in range(10))
    assert {Route.of(weights).choose("x", caller) for caller in CALLERS[:2000]} == {digest for digest, _ in weights}


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, True, "1", None, 10**400])
def test_weights_are_positive_numbers(weight: object):
    with pytest.raises(AliasInvalid, match="above 0"):
        check_weights({"abcdef": weight})


def test_traffic_names_something():
    with pytest.raises(AliasInvalid, match="at least one"):
        check_weights({})


def test_the_database_s_lists_become_tuples():
    assert traffic_from([["a", 1], ["b", 2.5]]) == (("a", 1), ("b", 2.5))
    assert traffic_from(None) == ()
