"""Each thing that may be missing on a fresh machine is named, with what mends it."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.setup import check

ROOT = Path(__file__).resolve().parents[2]


def test_platform() -> None:
    assert check.check_platform("Linux", "x86_64") is None
    problem = check.check_platform("Darwin", "arm64")
    assert problem
    assert "Darwin arm64" in problem.what


@pytest.mark.parametrize(("version", "fits"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_python(version: tuple[int, int], fits: bool) -> None:
    problem = check.check_python(version)
    assert (problem is None) == fits
    if problem:
        assert f"3.{version[1]}" in problem.what
        assert "PYTHON=" in problem.mend


def test_venv_module(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.check_venv((3, 12)) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    problem = check.check_venv((3, 12))
    assert problem
    assert problem.mend == "sudo apt install python3.12-venv"


def test_make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = check.check_make()
    assert problem
    assert problem.mend == "sudo apt install make"
    (tmp_path / "make").touch(mode=0o755)
    assert check.check_make() is None


def test_disk(tmp_path: Path) -> None:
    free_gb = shutil.disk_usage(tmp_path).free / check.GB
    assert check.check_disk(tmp_path, free_gb / 2) is None
    problem = check.check_disk(tmp_path, free_gb * 2)
    assert problem
    assert str(tmp_path) in problem.what


def machine(root: Path, available_kb: int, limit: str = "max", used: int = 0, cache: int = 0) -> Path:
    """A root folder whose kernel reports this memory."""
    (root / "proc").mkdir()
    (root / "proc" / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available_kb} kB\n")
    group = root / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    return root


def test_memory(tmp_path: Path) -> None:
    assert check.check_memory(machine(tmp_path, 8_000_000)) is None


def test_too_little_memory(tmp_path: Path) -> None:
    problem = check.check_memory(machine(tmp_path, 4_000_000))
    assert problem
    assert problem.what == "4.1 GB of memory are available, and 6 GB are needed"


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    container = machine(tmp_path, 8_000_000, limit="7000000000", used=2_000_000_000, cache=500_000_000)
    assert check.available_bytes(container) == 5_500_000_000
    assert check.check_memory(container)


def test_memory_without_control_group(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemAvailable: 1000 kB\n")
    assert check.available_bytes(tmp_path) == 1_024_000


def test_port_in_use_names_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        problem = check.check_port("127.0.0.1", port)
        assert problem
        assert f"process {os.getpid()}" in problem.what
        assert f"kill {os.getpid()}" in problem.mend
        assert "MANYHATS_PORT=" in problem.mend
    assert check.check_port("127.0.0.1", port) is None


def test_everything_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = check.problems(tmp_path, host="127.0.0.1", port=taken.getsockname()[1], disk_gb=1e9)
    text = check.as_text(found)
    for part in ("Python 3.9", "`make`", "GB of disk", "cannot be listened on"):
        assert part in text
    for problem in found:
        assert problem.mend in text


def test_nothing_is_installed_while_something_is_missing(tmp_path: Path) -> None:
    """The program itself, in a copy of the project: a taken port stops it before .venv is made."""
    shutil.copytree(ROOT / "deploy" / "setup", tmp_path / "deploy" / "setup")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = os.environ | {"PYTHON": sys.executable}
        command = [str(tmp_path / "deploy" / "setup" / "choose-python"), "--port", port]
        result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert port in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_does_not_run_is_said(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHON": str(tmp_path / "python3.13")}
    command = [str(ROOT / "deploy" / "setup" / "choose-python")]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "python3.13 does not run" in result.stderr


def test_a_name_on_the_path_that_fails_is_passed_over(tmp_path: Path) -> None:
    """The newest Python that runs is taken, not the newest name."""
    (tmp_path / "python3.13").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.12").write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho chosen "$@"\n')
    for name in ("python3.13", "python3.12"):
        (tmp_path / name).chmod(0o755)
    project = tmp_path / "project"
    shutil.copytree(ROOT / "deploy" / "setup", project / "deploy" / "setup")
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    result = subprocess.run(
        [project / "deploy" / "setup" / "choose-python", "--dev"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "chosen -m deploy.setup --dev\n"
