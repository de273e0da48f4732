from __future__ import annotations

import pytest

from deploy.ray.cores import cores_of


def test_what_the_operator_says_goes_round():
    assert [cores_of(number, bind_cores=["0-3", "4-7"], cpus=1) for number in range(3)] == ["0-3", "4-7", "0-3"]


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [(1, ["0", "1", "4", "5", "0"]), (2, ["0,1", "4,5", "0,1"]), (2.5, ["0,1", "4,5"]), (3, ["0,1,4", "0,1,4"])],
)
def test_each_replica_has_cores_of_its_own_as_long_as_there_are(cpus: float, expected: list[str]):
    assert [cores_of(number, cpus=cpus, allowed=[5, 0, 4, 1]) for number in range(len(expected))] == expected


def test_more_than_there_are_is_all_of_them():
    assert cores_of(1, cpus=8, allowed=[0, 1]) == "0,1"


@pytest.mark.parametrize("told", [{"cpus": 0.5}, {"cpus": 0}, {"cpus": 1, "flags": ["--tensor-parallel-size", "2"]}])
def test_otherwise_it_is_left_to_vllm(told: dict[str, float]):
    assert cores_of(0, allowed=[0, 1], **told) is None  # type: ignore[arg-type]


def test_flags_are_looked_at_by_name():
    assert cores_of(0, cpus=1, allowed=[0, 1], flags=["--disable-log-stats", "-tp=2"]) is None
    assert cores_of(0, cpus=1, allowed=[0, 1], flags=["--served-model-name", "parallel"]) == "0"
