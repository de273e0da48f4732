"""OpenAI's client for Node.js on the running product: files, polling, and streams of answers from sources."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "node" / "grounded.mjs"
SECONDS = 120


@pytest.fixture(scope="module")
def node(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the script finds OpenAI's client; skips where that cannot be had."""
    if shutil.which("node") is None:
        pytest.skip("there is no Node.js here")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(SCRIPT, folder)
    (folder / "node_modules").symlink_to(node_modules)
    return folder


def test_it_uploads_searches_and_is_answered_from_sources(server: str, node: Path) -> None:
    ran = subprocess.run(
        ["node", SCRIPT.name, f"{server}/v1"], cwd=node, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["file"]["content"].startswith("The ferry")
    assert told["file"]["bytes"] == len(told["file"]["content"])
    assert told["statuses"] == ["completed", "completed"]
    assert told["found"] == ["ferry.txt"]
    assert len(told["loop"].split()) > 2
    assert set(told["sources"]) == set(told["results"]) == {"ferry.txt", "harbour.txt"}
    assert told["output"] == ["file_search_call", "message"]
    assert told["events"].count("response.file_search_call.completed") == 1
    assert told["events"][-1] in ("response.completed", "response.incomplete")
    assert told["numbers"] == list(range(len(told["numbers"])))
    assert told["text"]
