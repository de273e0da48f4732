"""OpenAI's client for Node.js reads answers with sources, whole and streamed, as it reads OpenAI's own."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from server.app import create_app
from server.engine.fake import FakeEngine
from server.services import Services
from tests.server.citing.answers import retrieved

NODE = Path(__file__).parents[1] / "node"
PIECES = ("Sky 🦜", " [", "1", "]. Grass ", "[3]", ".")
TEXT = "".join(PIECES)

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js here"),
    pytest.mark.skipif(
        not (NODE / "node_modules").is_dir(), reason="OpenAI's client is not there: npm ci --prefix tests/node"
    ),
]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(pieces=PIECES)


@pytest.fixture
async def address(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Of a server with a socket, whose every answer has three sources."""

    async def found(body: dict[str, Any], *_: Any, **__: Any) -> Any:
        return body, retrieved()

    monkeypatch.setattr("server.answering.retrieve", found)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(services), log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve([listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    server.should_exit = True
    await serving


async def test_the_client_for_node_reads_everything(address: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "node", str(NODE / "ask.mjs"), address, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    told = json.loads(out)
    assert told["whole"]["text"] == told["loop"] == told["helper"] == told["response"]["text"] == TEXT
    spans = [annotation["url_citation"] for annotation in told["whole"]["annotations"]]
    assert [TEXT[span["start_index"] : span["end_index"]] for span in spans] == ["[1]", "[3]"]
    call, message = told["response"]["output"]
    assert call["type"] == "file_search_call"
    assert [annotation["file_id"] for annotation in message["content"][0]["annotations"]] == ["file-1", "file-3"]
    assert told["events"].count("response.output_text.annotation.added") == 2
    assert "response.file_search_call.completed" in told["events"]
