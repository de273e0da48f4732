from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
import pytest

from adapters.errors import AdapterRefused, SourceNotFound, SourceRefused, SourceTooLarge, SourceUnavailable
from adapters.sources import Sources

FILES = {"adapter_config.json", "adapter_model.safetensors"}
COMMIT = "c" * 40


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Hub(ThreadingHTTPServer):
    """The two hub endpoints that are used, over folders: {"org/repo": {"main": folder}}."""

    def __init__(self, repos: dict[str, dict[str, Path]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repos = repos
        self.asked: list[str] = []
        self.cut_short = False


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append(path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._info("/".join(parts[2:4]), "/".join(parts[5:]) or "main")
        else:
            self._file("/".join(parts[:2]), "/".join(parts[4:]))

    def _info(self, repo: str, revision: str) -> None:
        if repo not in self.server.repos:
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        if revision not in self.server.repos[repo]:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        folder = self.server.repos[repo][revision]
        files = [{"rfilename": str(path.relative_to(folder))} for path in folder.rglob("*") if path.is_file()]
        self._send(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": files}).encode(), {})

    def _file(self, repo: str, name: str) -> None:
        folder = next(iter(self.server.repos[repo].values()))
        self._send(200, (folder / name).read_bytes(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        is_half = self.server.cut_short and len(body) > 3000
        self.wfile.write(body[: len(body) // 2] if is_half else body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def hub(adapter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = adapter()
    (folder / "tokenizer.json").write_text("{}")
    nested = adapter().parent / "nested"
    shutil.copytree(folder, nested / "best")
    pickled = adapter()
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    repos = {"legal": {"main": folder, "refs/pr/1": folder}, "nested": {"main": nested}, "pickled": {"main": pickled}}
    with Hub({f"org/{name}": revisions for name, revisions in repos.items()}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


HUB = Sources((), ("hf://org/",), 100_000)


@pytest.mark.parametrize(
    "url",
    ["hf://org/legal", "hf://org/legal/", "hf://org/legal@main", "hf://org/legal@refs/pr/1", "hf://org/nested/best"],
)
def test_both_files_come_from_one_commit_of_the_hub(hub, into, url):
    HUB.stage(url, into)
    assert names(into) == FILES
    fetched = [path for path in hub.asked if "/resolve/" in path]
    assert len(fetched) == 2
    assert all(f"/resolve/{COMMIT}/" in path for path in fetched)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("hf://org/none", SourceNotFound),
        ("hf://org/legal@v9", SourceNotFound),
        ("hf://org/nested", AdapterRefused),
        ("hf://org/nested/worst", SourceNotFound),
        ("hf://org/pickled", AdapterRefused),
    ],
)
def test_what_the_hub_lacks_is_told(hub, into, url, error):
    with pytest.raises(error):
        HUB.stage(url, into)
    assert names(into) == set()


def test_a_hub_file_above_the_limit_is_not_fetched(hub, into):
    with pytest.raises(SourceTooLarge):
        Sources((), ("hf://org/",), 2000).stage("hf://org/legal", into)
    assert names(into) == set()


def test_a_broken_download_is_never_visible(hub, into):
    hub.cut_short = True
    with pytest.raises(SourceUnavailable, match="try again"):
        HUB.stage("hf://org/legal", into)
    assert names(into) == set()


def test_a_hub_that_does_not_answer_is_unavailable(into, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(SourceUnavailable):
        HUB.stage("hf://org/legal", into)


@pytest.fixture
def bucket(adapter) -> Iterator[str]:
    """A place in fsspec's memory file system."""
    memory = fsspec.filesystem("memory")
    memory.put(str(adapter()), "/bucket/legal", recursive=True)
    yield "memory://bucket/legal"
    memory.rm("/bucket", recursive=True)


MEMORY = Sources((), ("memory://bucket/",), 100_000)


def test_a_folder_elsewhere(bucket, into):
    MEMORY.stage(bucket, into)
    assert names(into) == FILES


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_an_archive_elsewhere(bucket, into, adapter, tmp_path, form):
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), form, adapter()))
    fsspec.filesystem("memory").put(str(packed), f"/bucket/{packed.name}")
    MEMORY.stage(f"memory://bucket/{packed.name}", into)
    assert names(into) == FILES


def test_places_that_hold_no_adapter(bucket, into):
    memory = fsspec.filesystem("memory")
    with pytest.raises(SourceNotFound):
        MEMORY.stage("memory://bucket/none", into)
    memory.mv("/bucket/legal/adapter_model.safetensors", "/bucket/legal/adapter_model.bin")
    with pytest.raises(AdapterRefused) as refused:
        MEMORY.stage(bucket, into)
    assert refused.value.kind == "pickle_weights"
    memory.rm("/bucket/legal/adapter_model.bin")
    with pytest.raises(AdapterRefused) as refused:
        MEMORY.stage(bucket, into)
    assert refused.value.kind == "weights_missing"
    assert names(into) == set()


def test_a_size_that_is_not_told_is_counted(bucket, into, monkeypatch):
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", lambda *_, **__: {"size": None, "type": "file"})
    with pytest.raises(SourceTooLarge):
        Sources((), ("memory://bucket/",), 2000).stage(bucket, into)
    assert names(into) == set()


def test_a_protocol_that_nobody_has(into):
    with pytest.raises(SourceRefused) as refused:
        Sources((), ("nonsense://",), 100_000).stage("nonsense://x/y", into)
    assert refused.value.kind == "unknown_protocol"


@pytest.fixture
def s3(adapter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket `models` on a local S3 server, reached as any is: by the environment."""
    from moto.server import ThreadedMotoServer

    environment = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    for name, value in environment.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    filesystem.mkdir("models")
    filesystem.put(str(adapter()), "models/legal", recursive=True)
    yield filesystem
    server.stop()


def test_s3(s3, into):
    sources = Sources((), ("s3://models/", "s3://none/"), 100_000)
    sources.stage("s3://models/legal", into)
    assert names(into) == FILES
    for url in ("s3://models/none", "s3://none/legal"):
        with pytest.raises(SourceNotFound):
            sources.stage(url, into)
