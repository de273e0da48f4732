from __future__ import annotations

import threading
from pathlib import Path

import pytest

from server.storage.identity import identity_of


def test_a_directory_keeps_its_name_and_others_have_others(tmp_path: Path) -> None:
    first = identity_of(tmp_path / "a")
    assert len(first) == 16
    assert identity_of(tmp_path / "a") == first
    assert identity_of(tmp_path / "b") != first
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["identity"]


def test_those_who_ask_at_once_agree(tmp_path: Path) -> None:
    start, told = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        told.append(identity_of(tmp_path))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert len(set(told)) == 1


def test_half_a_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text("abc")
    with pytest.raises(OSError, match="damaged; delete it"):
        identity_of(tmp_path)
