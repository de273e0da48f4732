"""The browser of the console's tests is installed where it can be, and its lack stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.setup import browser


class Machine:
    """What the set-up ran and said on a machine with these programs."""

    def __init__(self, *, install_works: bool = True) -> None:
        self.ran: list[list[str]] = []
        self.said: list[str] = []
        self._install_works = install_works

    def run(self, what: str, command: list[str]) -> bool:
        self.ran.append(command)
        return self._install_works

    def add(self) -> Machine:
        browser.add(self.run, self.said.append)
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


def test_nothing_is_done_where_it_is(programs: Path) -> None:
    program(programs, "chromium")
    program(programs, "apt-get")
    machine = Machine().add()
    assert (machine.ran, machine.said) == ([], [])


def test_root_gets_the_distribution_s(programs: Path) -> None:
    program(programs, "apt-get")
    machine = Machine().add()
    update, install = machine.ran
    assert update[-1] == "update"
    assert install[-5:] == ["install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
    assert machine.said == []


def test_a_failure_says_what_is_skipped_and_how_to_mend_it(programs: Path) -> None:
    program(programs, "apt-get")
    machine = Machine(install_works=False).add()
    assert len(machine.ran) == 2
    (line,) = machine.said
    assert "will be skipped" in line
    assert "apt-get install chromium" in line


def test_nobody_is_asked_for_a_password(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "apt-get")
    program(programs, "sudo")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    machine = Machine().add()
    assert machine.ran == []
    assert "only root can install it" in machine.said[0]


def test_other_distributions_are_left_alone(programs: Path) -> None:
    machine = Machine().add()
    assert machine.ran == []
    assert "no apt-get" in machine.said[0]
