"""PostgreSQL for the tests is installed where it can be, starts no server of its own, and its lack stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.setup import postgresql


class Machine:
    """What the set-up ran and said on a machine with these programs."""

    def __init__(self, *, install_works: bool = True) -> None:
        self.ran: list[list[str]] = []
        self.said: list[str] = []
        self._install_works = install_works

    def run(self, what: str, command: list[str]) -> bool:
        self.ran.append(command)
        return self._install_works or "install" not in command

    def add(self) -> Machine:
        postgresql.add(self.run, self.said.append, places="/nowhere/*/initdb")
        return self


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return tmp_path


def program(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


def test_nothing_is_done_where_it_is(programs: Path, tmp_path: Path) -> None:
    program(programs, "apt-get")
    program(programs, "initdb")
    machine = Machine().add()
    assert (machine.ran, machine.said) == ([], [])


def test_debian_s_place_is_known(programs: Path, tmp_path: Path) -> None:
    place = tmp_path / "15" / "bin"
    place.mkdir(parents=True)
    program(place, "initdb")
    machine = Machine()
    postgresql.add(machine.run, machine.said.append, places=f"{tmp_path}/*/bin/initdb")
    assert (machine.ran, machine.said) == ([], [])


@pytest.mark.parametrize("works", [True, False])
def test_root_gets_the_distribution_s_without_a_server(programs: Path, works: bool) -> None:
    program(programs, "apt-get")
    machine = Machine(install_works=works).add()
    update, before, install, after = machine.ran
    assert update[-1] == "update"
    assert "create_main_cluster = false" in before[-1]
    assert install[-4:] == ["install", "-y", "--no-install-recommends", "postgresql"]
    assert after == ["rm", "-f", postgresql.NO_CLUSTER]  # whatever came of it
    assert len(machine.said) == (not works)


def test_nobody_is_asked_for_a_password(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "apt-get")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    machine = Machine().add()
    assert machine.ran == []
    (line,) = machine.said
    assert "only root can install it: the tests over it will be skipped" in line
    assert "apt-get install postgresql" in line
