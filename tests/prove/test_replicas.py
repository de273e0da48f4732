"""Processes that change one database at once agree in the end, with each other and with one that comes fresh to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from server.storage.database import Database
from tests.prove.changing import FIELDS, Replica

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("changes", [40, pytest.param(1000, marks=pytest.mark.prove)])
def test_they_agree(database_url: str, tmp_path: Path, changes: int) -> None:
    with closing(Database(database_url)) as database:
        database.migrate()
    first = Replica(database_url, tmp_path, "first", 0)
    first.prepare()
    first.searcher.close()
    first.database.close()
    with ExitStack() as stack:
        replicas = {name: stack.enter_context(started(database_url, tmp_path, name, changes)) for name in FIELDS}
        for replica in replicas.values():
            tell(replica, "go")
        ended = {name: heard(replica) for name, replica in replicas.items()}
        print(json.dumps(ended))
        told = {name: asked(replica) for name, replica in replicas.items()}
        seen = asked(stack.enter_context(started(database_url, tmp_path, "fresh", 0)))["seen"]
    for name, one in told.items():
        assert one["seen"] == seen, name
        assert seen["shared"][name] == one["last"]  # nobody's change was overwritten by another's
        assert set(one["created"]) <= seen["keys"].keys()
        assert all(seen["keys"][key_id] is not None for key_id in one["revoked"])
    assert all(seen["files_are_there"])
    assert all(sum(one["counts"].values()) == changes for one in ended.values())
    assert all(one["counts"]["made"] > changes / 3 for one in ended.values())
    assert any(seen["found"].values())


@contextmanager
def started(url: str, folder: Path, name: str, changes: int) -> Iterator[subprocess.Popen[str]]:
    """A process of `changing`, ready; it ends with the block, and must end well where the block does."""
    command = [sys.executable, "-m", "tests.prove.changing", url, str(folder), name, "--changes", str(changes)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert heard(process) == "ready"
            yield process
            assert process.stdin
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()


def asked(process: subprocess.Popen[str]) -> Any:
    tell(process, "tell")
    return heard(process)


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait()}"
    return json.loads(line)
