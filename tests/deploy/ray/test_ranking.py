from __future__ import annotations

from deploy.ray.ranking import PROMISE_SECONDS, Ranking, Standing


def standing(*resident: str, busy: int = 0) -> Standing:
    return Standing(resident=frozenset(resident), busy=busy)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_where_the_version_is_resident_comes_first():
    ranks = Ranking[str](spill_at=4).ranks("legal", {"a": standing(), "b": standing("legal", busy=3)})
    assert ranks[0] == ["b"]
    assert set(ranks[-1]) == {"a", "b"}


def test_a_request_for_no_version_may_go_anywhere():
    ranks = Ranking[str](spill_at=4).ranks("", {"a": standing(busy=9), "b": standing("legal")})
    assert ranks == [["a", "b"]]


def test_a_busy_holder_spills_to_those_that_are_not_busy():
    replicas = {"a": standing("legal", busy=4), "b": standing(busy=3), "c": standing(busy=5)}
    assert Ranking[str](spill_at=4).ranks("legal", replicas) == [["b"], ["a"], ["a", "b", "c"]]


def test_where_all_are_busy_the_holder_comes_first():
    replicas = {"a": standing("legal", busy=9), "b": standing(busy=5)}
    assert Ranking[str](spill_at=4).ranks("legal", replicas)[0] == ["a"]


def test_a_cold_version_goes_to_the_fewest_versions_and_then_to_the_least_busy():
    replicas = {"a": standing("x", "y"), "b": standing("z", busy=2), "c": standing("v", busy=1)}
    assert Ranking[str](spill_at=4).ranks("legal", replicas)[0] == ["c"]


def test_requests_for_a_cold_version_follow_the_first_one():
    ranking = Ranking[str](spill_at=9)
    replicas = {"a": standing(), "b": standing()}
    first = ranking.ranks("legal", replicas)[0]
    assert ranking.ranks("legal", {"a": standing(busy=8), "b": standing(busy=8)})[0] == first


def test_cold_versions_are_shared_out_before_anything_is_told():
    ranking = Ranking[str](spill_at=9)
    replicas = {"a": standing(), "b": standing()}
    chosen = [ranking.ranks(f"adapter-{i}", replicas)[0][0] for i in range(8)]
    assert sorted(chosen) == ["a"] * 4 + ["b"] * 4


def test_a_promise_goes_with_its_replica():
    ranking = Ranking[str](spill_at=9)
    (chosen,) = ranking.ranks("legal", {"a": standing(), "b": standing()})[0]
    left = {"a", "b"} - {chosen}
    assert ranking.ranks("legal", {name: standing() for name in left})[0] == list(left)


def test_a_promise_is_forgotten_after_its_time():
    clock = Clock()
    ranking = Ranking[str](spill_at=9, clock=clock)
    assert ranking.ranks("legal", {"a": standing(), "b": standing("x")})[0] == ["a"]
    clock.now += PROMISE_SECONDS + 1
    assert ranking.ranks("legal", {"a": standing("x", "y"), "b": standing("x")})[0] == ["b"]


def test_a_promise_follows_where_the_request_really_went():
    ranking = Ranking[str](spill_at=9)
    assert ranking.ranks("legal", {"a": standing(), "b": standing("x")})[0] == ["a"]
    ranking.routed("legal", "b")
    assert ranking.ranks("legal", {"a": standing(), "b": standing("x")})[0] == ["b"]


def test_nothing_is_promised_for_a_version_that_is_resident():
    ranking = Ranking[str](spill_at=9)
    ranking.routed("legal", "b")
    assert ranking.ranks("legal", {"a": standing(), "b": standing("x")})[0] == ["a"]
