"""The unit is one that systemd takes, hardened, and stops the server as the server wants to be stopped."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path

import pytest

from server.serve import STOP_MARGIN_SECONDS
from server.settings import Settings, setting_names
from tests.deploy.tools import ROOT, run, tool

SYSTEMD = ROOT / "deploy" / "systemd"
MOST_EXPOSED = 2.5  # of 10, as `systemd-analyze security` counts; a unit without hardening has 9.6


def environment() -> dict[str, str]:
    """The variables that the unit sets."""
    lines = re.findall(r"(?m)^Environment=(.*)$", (SYSTEMD / "manyhats.service").read_text())
    return dict(word.split("=", 1) for line in lines for word in line.split())


def service() -> dict[str, str]:
    """The [Service] section; of what is given twice, the last."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's names have capitals
    parser.read(SYSTEMD / "manyhats.service")
    return dict(parser["Service"])


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root folder with the unit, its drop-in and the program that it names."""
    units = tmp_path / "etc/systemd/system"
    (units / "manyhats.service.d").mkdir(parents=True)
    (units / "manyhats.service").write_text((SYSTEMD / "manyhats.service").read_text())
    (units / "manyhats.service.d" / "gpu.conf").write_text((SYSTEMD / "manyhats-gpu.conf").read_text())
    program = tmp_path / service()["ExecStart"].split()[0].lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for target in ("sysinit.target", "network-online.target", "multi-user.target", "basic.target", "shutdown.target"):
        (units / target).write_text(f"[Unit]\nDescription={target}\n")
    (units / "system.slice").write_text("[Unit]\nDescription=slice\n")
    return tmp_path


def test_systemd_takes_it(machine: Path) -> None:
    told = run(tool("systemd-analyze"), "verify", "--man=no", f"--root={machine}", "manyhats.service")
    assert "manyhats.service" not in told, told


def test_a_misspelt_line_would_be_seen(machine: Path) -> None:
    unit = machine / "etc/systemd/system/manyhats.service"
    unit.write_text(unit.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    told = run(tool("systemd-analyze"), "verify", "--man=no", f"--root={machine}", "manyhats.service")
    assert "NoNewPrivilege" in told


def test_it_is_hardened(tmp_path: Path) -> None:
    told = run(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", SYSTEMD / "manyhats.service")
    score = re.search(r"exposure level for manyhats.service: ([\d.]+)", told)
    assert score, told
    assert float(score[1]) <= MOST_EXPOSED, told


def test_what_writes_machine_code_is_not_forbidden() -> None:
    assert "MemoryDenyWriteExecute" not in service()


def test_the_parent_alone_is_told_to_stop_and_has_the_time() -> None:
    told = service()
    assert told["KillMode"] == "mixed"
    assert int(told["TimeoutStopSec"]) > Settings().drain_seconds + STOP_MARGIN_SECONDS


def test_one_process_without_memory_does_not_end_the_others() -> None:
    assert service()["OOMPolicy"] == "continue"


def test_it_writes_where_it_may() -> None:
    told = service()
    given = environment()
    assert given["MANYHATS_DATA_DIR"] == f"/var/lib/{told['StateDirectory']}"
    assert given["HOME"] == f"/var/cache/{told['CacheDirectory']}"


def test_nothing_is_compiled_but_on_a_gpu() -> None:
    """Else, without a C++ compiler, the first request for log-probabilities ends vLLM's engine."""
    assert environment()["TORCH_COMPILE_DISABLE"] == "1"
    assert "Environment=TORCH_COMPILE_DISABLE=0\n" in (SYSTEMD / "manyhats-gpu.conf").read_text()


def test_the_user_is_made() -> None:
    lines = [line.split() for line in (SYSTEMD / "manyhats.sysusers").read_text().splitlines() if line[0] != "#"]
    assert [line[:2] for line in lines] == [["u", service()["User"]]]


@pytest.mark.parametrize("name", ["manyhats.service", "manyhats.env"])
def test_settings_are_those_that_there_are(name: str) -> None:
    named = set(re.findall(r"MANYHATS_[A-Z_]+", (SYSTEMD / name).read_text()))
    assert named
    assert named <= set(setting_names())
