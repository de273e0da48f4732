from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.servers import Server
from bench.shared import running
from bench.shared.places import Place, embedded
from bench.shared.running import Running, make_adapters
from server.settings import DEMO_DIR


def served(folder: Path, place: Place, asked: list[tuple[str, str, Any]], known: list[str]) -> Running:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"null")
        asked.append((request.method, request.url.path, body))
        return httpx.Response(200, json={"data": [{"name": name} for name in known], "version": {"id": body}})

    unused: Any = None
    server = Server(name="ours", port=1, process=unused, ready_seconds=0, log=folder / "log")
    http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer))
    return Running(place=place, server=server, folder=folder, api=unused, http=http)


def test_all_adapters_are_different(tmp_path: Path) -> None:
    moved, uploads, cold = make_adapters(tmp_path, 2, each=2)
    assert (len(moved), len(uploads), len(cold)) == (2, 4, 4)
    weights = [zipfile.ZipFile(io.BytesIO(content)).read("adapter_model.safetensors") for content in uploads]
    folders = [*(tmp_path / name for name in (*moved, *cold)), *(DEMO_DIR / "adapters").iterdir()]
    weights += [(folder / "adapter_model.safetensors").read_bytes() for folder in folders]
    assert len(set(weights)) == len(weights) > 10  # else what is called cold was at hand already


def test_over_a_folder_cold_adapters_are_registered_and_not_asked(tmp_path: Path) -> None:
    asked: list[tuple[str, str, Any]] = []
    one = served(tmp_path, embedded(), asked, [])
    one._register(tmp_path, ["cold-0", "cold-1"])
    assert asked == [
        ("POST", "/v1/adapters", {"name": name, "source": str(tmp_path / name)}) for name in ("cold-0", "cold-1")
    ]
    one.http.close()


def test_over_a_bucket_another_process_registers_them_and_the_server_learns_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[list[str]] = []
    known: list[str] = []

    def run(command: list[str], **_: object) -> None:
        began.append(command[1:])
        known.extend(command[-2:])

    monkeypatch.setattr(running.subprocess, "run", run)
    asked: list[tuple[str, str, Any]] = []
    one = served(tmp_path, Place(name="far", settings={"MANYHATS_BLOB_URL": "s3://bench"}), asked, known)
    one._register(tmp_path, ["cold-0", "cold-1"])
    assert began == [["-m", "bench.adapters", str(tmp_path), "cold-0", "cold-1"]]
    assert [method for method, _, _ in asked] == ["GET"]
    known.clear()
    monkeypatch.setattr(running, "LEARN_SECONDS", 0)
    monkeypatch.setattr(running.subprocess, "run", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match="did not learn"):
        one._register(tmp_path, ["cold-0"])
    one.http.close()
