"""The README's commands, in its order, as a reader would paste them; Python blocks share one session as they do there.

The section on keys closes the server to whoever has none, so it runs against a server of its own, without a model.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.docs.fences import ROOT, Block, blocks, commands
from tests.e2e.pasting import ADDRESS, BLOCK_SECONDS, make_desk, run

BLOCKS = [block for block in commands(ROOT / "README.md") if block.reason is None]
KEYS = "Keys, rights and limits"


def name(block: Block) -> str:
    return f"line-{block.line}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone and may be written to."""
    return make_desk(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def session() -> dict[str, Any]:
    """What earlier Python blocks have defined."""
    return {}


@pytest.fixture(scope="module")
def tidy() -> Iterator[Callable[[str], None]]:
    """Told of a server, removes what a block that failed half-way has left there."""
    known: dict[str, set[str]] = {}

    def names(address: str) -> set[str]:
        def listed(what: str, key: str, limit: int = 100) -> set[str]:
            found = httpx2.get(f"{address}/v1/{what}", params={"limit": limit}).json()["data"]
            return {f"{what}/{one[key]}" for one in found}

        by_name = listed("adapters", "name") | listed("assistants", "name")
        return by_name | listed("vector_stores", "id") | listed("files", "id", limit=10_000)

    def remember(address: str) -> None:
        if address not in known:
            known[address] = names(address)

    yield remember
    for address, before in known.items():
        for left in names(address) - before:
            httpx2.delete(f"{address}/v1/{left}")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.section != KEYS], ids=name)
def test_block(
    block: Block,
    server: str,
    house: Any,
    desk: Path,
    session: dict[str, Any],
    tidy: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tidy(server)
    if block.language == "sh":
        run(block, address=server, data_dir=house.data_dir, roots=house.roots, desk=desk)
        return
    source = "\n" * block.line + block.text.replace(ADDRESS, server)  # so that a traceback has the README's lines
    exec(compile(source, "README.md", "exec"), session)
    assert capsys.readouterr().out.strip(), "the block shows nothing"


def test_names_answer_as_shown(client: openai.OpenAI) -> None:
    texts = [block.text for block in blocks(ROOT / "README.md") if block.language == "text"]
    shown = next(text for text in texts if text.startswith("demo "))
    for model, answer in (line.split(maxsplit=1) for line in shown.splitlines()):
        question: Any = [{"role": "user", "content": "Who are you?"}]
        given = client.chat.completions.create(model=model, messages=question, temperature=0)
        assert given.choices[0].message.content == answer


def test_the_guides_sources_are_those_shown(server: str, house: Any, desk: Path) -> None:
    asked, shown, in_portuguese, *_ = (
        block for block in blocks(ROOT / "README.md") if "make serve" not in block.text.splitlines()
    )
    printed = run(asked, address=server, data_dir=house.data_dir, roots=house.roots, desk=desk)
    assert printed == shown.text, f"README.md:{shown.line} shows another answer or other sources than {printed!r}"
    answered = json.loads(run(in_portuguese, address=server, data_dir=house.data_dir, roots=house.roots, desk=desk))
    best = max(answered["retrieval"]["sources"], key=lambda source: source["score"])
    assert best["filename"] == "brisa-precos.pt.md"


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[str]:
    """A server for the section on keys; its engine answers from a script, since keys are the same before any."""
    settings = {"MANYHATS_DATA_DIR": str(tmp_path / "data"), "MANYHATS_PORT": "0", "MANYHATS_ENGINE": "fake"}
    outside = {key: value for key, value in os.environ.items() if not key.startswith("MANYHATS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "serve"],
        cwd=ROOT,
        env={**outside, **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = next((line for line in process.stdout if " is ready at " in line), "")
        assert told, "the server ended before it was ready"
        yield told.partition(" is ready at ")[2].split()[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=BLOCK_SECONDS)


def test_keys(closed: str, tmp_path: Path, desk: Path) -> None:
    told = [block for block in BLOCKS if block.section == KEYS]
    assert told
    for block in told:
        printed = run(block, address=closed, data_dir=tmp_path / "data", roots=tmp_path, desk=desk)
        assert '"id":"pirate"' in printed
    assert httpx2.get(f"{closed}/v1/models").status_code == 401
