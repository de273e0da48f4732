"""`manyhats eval`: which weights are measured on what, and what the table says; the measuring itself is scripted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from adapters.training import evaluation, train
from adapters.training.errors import DataInvalid
from adapters.training.evaluation import Evaluation
from server.cli import main
from server.settings import DEMO_DIR

Manyhats = Callable[..., str]

PIRATE, SHOUT = (DEMO_DIR / "adapters" / name for name in ("pirate", "shout"))


@pytest.fixture
def manyhats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Manyhats:
    """Run the command on a data directory of its own: what it wrote to stdout, or to stderr where it must fail."""
    for name in list(os.environ):
        if name.startswith("MANYHATS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MANYHATS_DATA_DIR", str(tmp_path / "data"))

    def run(*words: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["manyhats", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert (ended.value.code or 0) == status, written.out + written.err
        return written.err if status else written.out

    return run


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path | None, dict[str, Any]]]:
    """The adapters that were measured, with what else was asked; each loses half of the one before."""
    calls: list[tuple[Path | None, dict[str, Any]]] = []

    def evaluate(base: Path, adapter: Path | None, examples: Path, kind: str, **options: Any) -> Evaluation:
        if "wrong" in examples.read_text():
            raise DataInvalid("not_json", 3, "not JSON")
        calls.append((adapter, {"base": base, "examples": examples, "kind": kind, **options}))
        loss = 4.0 / 2 ** len(calls)
        return Evaluation(n=7, loss=loss, perplexity=2.0, token_accuracy=0.5, exact_match=None, accuracy=0.25)

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    monkeypatch.setattr(train, "quiet", lambda work: nullcontext())
    return calls


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prova.jsonl"
    path.write_text("{}\n")
    return path


def test_base_and_versions(manyhats: Manyhats, measured: list[tuple[Path | None, dict[str, Any]]], file: Path) -> None:
    manyhats("adapters", "add", PIRATE, "--name", "sailor")
    manyhats("adapters", "add", SHOUT, "--name", "sailor", "--new-version")
    versions = [one["id"] for one in json.loads(manyhats("adapters", "show", "sailor", "--json"))["versions"]]
    rows = [line.split() for line in manyhats("eval", "sailor", file, "--examples", "9").splitlines() if "%" in line]
    assert [row[0] for row in rows] == ["demo", *versions]
    assert [row[1] for row in rows] == ["2.000", "1.000", "0.500"]
    assert rows[0] == ["demo", "2.000", "50.0%", "25.0%", "7"]
    folders = [folder for folder, _ in measured]
    assert folders[0] is None
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in folders[1:] if folder is not None]
    assert weights[0] != weights[1]
    assert all(asked["most"] == 9 and asked["kind"] == "supervised" for _, asked in measured)
    assert all(asked["context_tokens"] == 2048 and asked["examples"] == file for _, asked in measured)


def test_one_version_for_programs(
    manyhats: Manyhats, measured: list[tuple[Path | None, dict[str, Any]]], file: Path
) -> None:
    manyhats("adapters", "add", PIRATE, "--name", "sailor")
    manyhats("adapters", "add", SHOUT, "--name", "sailor", "--new-version")
    wanted = json.loads(manyhats("adapters", "show", "sailor", "--json"))["versions"][1]["id"]
    found = json.loads(manyhats("eval", wanted[: len("sailor@") + 6], file, "--kind", "dpo", "--json"))
    assert list(found) == ["demo", wanted]
    assert found[wanted]["loss"] == 1.0
    assert measured[0][1]["kind"] == "dpo"


def test_mistakes(manyhats: Manyhats, measured: list[tuple[Path | None, dict[str, Any]]], file: Path) -> None:
    nobody = manyhats("eval", "nobody", file, status=1)
    assert "'nobody'" in nobody
    assert "MANYHATS_DATA_DIR" in nobody  # most often the server's adapters are meant, which lie elsewhere
    assert "'magic'" in manyhats("eval", "nobody", file, "--kind", "magic", status=1)
    manyhats("adapters", "add", PIRATE, "--name", "sailor")
    file.write_text("wrong")
    assert "line 3: not JSON" in manyhats("eval", "sailor", file, status=1)
