"""`manyhats files`, `stores` and `ingest` on a data directory without a server: files are read and embedded here."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from server import ingesting
from server.cli import main
from server.cli_output import CommandFailed
from server.client import Api
from server.folder_origin import Origin
from server.offline import Offline
from server.offline_ingestion import OfflineIngestion
from server.settings import load_settings
from tests.retrieval.tiny_embedder import make_embedder

Manyhats = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def manyhats(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Manyhats:
    """Run the command on a data directory of its own: what it wrote to stdout, or to stderr where it must fail."""
    for name in list(os.environ):
        if name.startswith("MANYHATS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MANYHATS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MANYHATS_EMBEDDER", str(model))
    monkeypatch.setenv("MANYHATS_EMBEDDER_BACKEND", "torch")

    def run(*words: object, status: int = 0, both: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["manyhats", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert (ended.value.code or 0) == status, written.out + written.err
        return written.out + written.err if both else written.err if status else written.out

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    (folder / "sub").mkdir(parents=True)
    (folder / "one.md").write_text("# aa bb\n\nThe first: ab cd ef.")
    (folder / "sub" / "two.txt").write_text("The second: gh ij kl.")
    return folder


def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the command asks the server for from now on."""
    seen: list[tuple[str, str]] = []
    original = Api._call

    async def note(self: Api, method: str, path: str, *rest: Any) -> dict[str, Any]:
        seen.append((method, path))
        return await original(self, method, path, *rest)

    monkeypatch.setattr(Api, "_call", note)
    return seen


def test_a_folder_s_life(manyhats: Manyhats, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = manyhats("ingest", folder, "--store", "hb", "--dry-run")
    assert "+ one.md" in planned
    assert "+ sub/two.txt" in planned
    assert "2 to add" in planned
    assert json.loads(manyhats("stores", "list", "--json")) == []  # only said

    assert manyhats("ingest", folder, "--store", "hb") == "hb: 2 added\n"
    (store,) = json.loads(manyhats("stores", "list", "--json"))
    assert store["file_counts"] == {"in_progress": 0, "completed": 2, "failed": 0, "cancelled": 0, "total": 2}
    (hit,) = json.loads(manyhats("stores", "search", "hb", "gh ij kl", "-n", "1", "--json"))
    assert hit["filename"] == "two.txt"
    assert hit["attributes"]["path"] == "sub/two.txt"
    assert "two.txt" in manyhats("stores", "search", "hb", "gh ij kl")

    seen = calls(monkeypatch)
    assert manyhats("ingest", folder, "--store", "hb") == "hb: 2 unchanged\n"
    assert {method for method, _ in seen} == {"GET"}  # a second time nothing is done

    (folder / "one.md").write_text("The first, anew: mn op.")
    (folder / "sub" / "two.txt").unlink()
    (folder / "three.md").write_text("The third: qr st.")
    report = json.loads(manyhats("ingest", folder, "--store", "hb", "--json"))
    assert report == {
        "added": ["three.md"],
        "changed": ["one.md"],
        "removed": ["sub/two.txt"],
        "unchanged": 0,
        "failed": [],
    }
    files = json.loads(manyhats("files", "list", "--json"))
    assert sorted(file["filename"] for file in files) == ["one.md", "three.md"]  # older ones are deleted
    hits = json.loads(manyhats("stores", "search", "hb", "gh ij kl mn op qr st", "--json"))
    assert {hit["attributes"]["path"] for hit in hits} == {"one.md", "three.md"}


def test_what_fails_is_named_and_the_rest_goes_on(
    manyhats: Manyhats, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    (folder / "locked.md").symlink_to(folder / "sub" / ".." / "one.md")
    written = manyhats("ingest", folder, "--store", "hb", status=1, both=True)
    assert "failed: broken.pdf: " in written
    assert "hb: 3 added, 1 failed" in written
    seen = calls(monkeypatch)
    again = manyhats("ingest", folder, "--store", "hb", status=1, both=True)
    assert "failed: broken.pdf: " in again
    assert "3 unchanged, 1 failed" in again
    assert {method for method, _ in seen} == {"GET"}

    assert "broken.pdf" in manyhats("stores", "show", "hb")
    assert "1 failed" in manyhats("ingest", folder, "--store", "hb", "--retry", status=1, both=True)
    uploads = [call for call in seen if call == ("POST", "/v1/files")]
    assert uploads == []  # it is there already

    (folder / "broken.pdf").unlink()
    assert "1 removed, 3 unchanged" in manyhats("ingest", folder, "--store", "hb")


def test_a_newer_version_that_cannot_be_read_leaves_the_older_one(manyhats: Manyhats, folder: Path) -> None:
    manyhats("ingest", folder, "--store", "hb")
    right = (folder / "one.md").read_bytes()
    (folder / "one.md").write_bytes(b"%PDF-1.7 broken")
    manyhats("ingest", folder, "--store", "hb", status=1)
    hits = json.loads(manyhats("stores", "search", "hb", "ab cd ef", "--json"))
    assert "one.md" in {hit["filename"] for hit in hits}
    (folder / "one.md").write_bytes(right)
    assert "2 unchanged" in manyhats("ingest", folder, "--store", "hb")
    assert len(json.loads(manyhats("files", "list", "--json"))) == 2  # the damaged one is gone


def test_a_folder_that_cannot_be_read_loses_nothing_from_the_store(
    manyhats: Manyhats, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manyhats("ingest", folder, "--store", "hb")
    scandir, stat = os.scandir, Path.stat

    def refusing(path: Any) -> Any:
        if path == str(folder / "sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def refusing_stat(self: Path, **options: Any) -> os.stat_result:
        if self.parent.name == "sub":
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(Path, "stat", refusing_stat)
    written = manyhats("ingest", folder, "--store", "hb", status=1, both=True)
    assert "failed: sub: the folder cannot be read: Permission denied" in written
    assert "removed" not in written
    hits = json.loads(manyhats("stores", "search", "hb", "gh ij kl", "--json"))
    assert {hit["attributes"]["path"] for hit in hits} == {"one.md", "sub/two.txt"}


def test_names_and_texts_have_no_power_over_the_terminal(manyhats: Manyhats, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "esc\x1b]0;mine\x07\nname.md").write_text("ab cd \x1b[31m ef \u202e gh")
    (folder / "broken\x1b[2J.pdf").write_bytes(b"%PDF-1.7 broken")
    written = manyhats("ingest", folder, "--store", "hb", "--dry-run")
    written += manyhats("ingest", folder, "--store", "hb", status=1, both=True)
    manyhats("stores", "create", "a\x1b[31m\nb\u202e")
    written += manyhats("stores", "list") + manyhats("stores", "search", "hb", "ab cd") + manyhats("files", "list")
    assert "a\\x1b[31m\\nb\\u202e" in written
    assert not {character for character in written if not character.isprintable()} - {"\n"}


def test_several_folders_in_one_store(manyhats: Manyhats, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "one.md").write_text("Of the other folder: uv wx.")
    manyhats("ingest", folder, "--store", "hb")
    assert manyhats("ingest", other, "--store", "hb") == "hb: 1 added\n"
    assert manyhats("ingest", folder, "--store", "hb") == "hb: 2 unchanged\n"
    assert manyhats("ingest", other, "--store", "hb", "--as", "handbook", "--dry-run").count("\n- ") == 1


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of one name, with files of their own and one that both have."""
    folders = (tmp_path / "a" / "docs", tmp_path / "b" / "docs")
    for folder, text in zip(folders, ("ab cd", "ef gh"), strict=True):
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(f"Of one of them: {text}.")
        (folder / "LICENSE").write_text("The same: ij kl.")
        (folder / f"only-{text[:2]}.md").write_text(f"Of this one alone: {text} mn.")
    return folders


def kept(manyhats: Manyhats) -> list[str]:
    """Paths of the files in the store."""
    hits = json.loads(manyhats("stores", "search", "kb", "ab cd ef gh ij kl mn", "-n", "50", "--json"))
    return sorted({hit["attributes"]["path"] for hit in hits})


A = ["LICENSE", "README.md", "only-ab.md"]
B = ["LICENSE", "README.md", "only-ef.md"]


def check_two_folders(manyhats: Manyhats, a: Path, b: Path, tmp_path: Path) -> None:
    assert "3 added" in manyhats("ingest", a, "--store", "kb")
    for words in ((), ("--dry-run",)):
        said = manyhats("ingest", b, "--store", "kb", *words, status=1)
        assert "another folder that is called 'docs'" in said
        assert "--as NAME" in said
    assert kept(manyhats) == A
    assert manyhats("ingest", b, "--store", "kb", "--as", "docs-b") == "kb: 3 added\n"
    assert kept(manyhats) == sorted({*A, *B})
    assert manyhats("ingest", a, "--store", "kb") == "kb: 3 unchanged\n"

    moved = tmp_path / "moved" / "docs"
    moved.parent.mkdir()
    a.rename(moved)
    (moved / "README.md").unlink()
    assert "--as docs" in manyhats("ingest", moved, "--store", "kb", status=1)
    assert manyhats("ingest", moved, "--store", "kb", "--as", "docs") == "kb: 1 removed, 2 unchanged\n"
    assert manyhats("ingest", moved, "--store", "kb") == "kb: 2 unchanged\n"  # it is this one's now
    assert manyhats("ingest", b, "--store", "kb", "--as", "docs-b") == "kb: 3 unchanged\n"


def test_two_folders_of_one_name_leave_each_other_alone(
    manyhats: Manyhats, two: tuple[Path, Path], tmp_path: Path
) -> None:
    check_two_folders(manyhats, *two, tmp_path)


def test_a_store_of_an_earlier_release_goes_on(
    manyhats: Manyhats, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    (b / "LICENSE").write_text("Another: op qr.")
    original = Origin.attributes_of
    with monkeypatch.context() as patched:  # as it was before files told where they came from
        patched.setattr(Origin, "attributes_of", lambda self, found: before(original(self, found)))
        assert "3 added" in manyhats("ingest", a, "--store", "kb")
    said = manyhats("ingest", b, "--store", "kb", status=1)
    assert "--as docs" in said
    assert kept(manyhats) == A

    (a / "README.md").write_text("Anew: st uv.")
    (a / "LICENSE").unlink()
    assert "+ " not in manyhats("ingest", a, "--store", "kb", "--dry-run")
    assert manyhats("ingest", a, "--store", "kb") == "kb: 1 changed, 1 removed, 1 unchanged\n"
    hits = json.loads(manyhats("stores", "search", "kb", "ab cd st uv mn", "--json"))
    assert {hit["attributes"]["folder_id"] for hit in hits} == {Origin.of(a).id}
    assert {hit["attributes"].get("lang") for hit in hits} == {None, "pt"}  # what it had before is still there
    seen = calls(monkeypatch)
    assert manyhats("ingest", a, "--store", "kb") == "kb: 2 unchanged\n"
    assert {method for method, _ in seen} == {"GET"}


def before(attributes: dict[str, str]) -> dict[str, str]:
    """What an earlier release noted, and something that a person did."""
    return {"lang": "pt"} | {key: value for key, value in attributes.items() if key != "folder_id"}


def test_more_files_than_fit_one_batch(manyhats: Manyhats, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "GROUP", 3)
    for number in range(5):
        (folder / f"{number}.txt").write_text(f"Number {number}: ab cd.")
    seen = calls(monkeypatch)
    assert manyhats("ingest", folder, "--store", "hb", "--jobs", "2") == "hb: 7 added\n"
    assert sum(method == "POST" and path.endswith("/file_batches") for method, path in seen) == 3
    assert manyhats("ingest", folder, "--store", "hb") == "hb: 7 unchanged\n"


def test_uploads_that_reach_no_store_are_taken_back(
    manyhats: Manyhats, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Api._call

    async def fail(self: Api, method: str, path: str, *rest: Any) -> dict[str, Any]:
        if method == "POST" and path.endswith("/file_batches"):
            raise CommandFailed("the server has gone")
        return await original(self, method, path, *rest)

    monkeypatch.setattr(Api, "_call", fail)
    assert "the server has gone" in manyhats("ingest", folder, "--store", "hb", status=1)
    assert json.loads(manyhats("files", "list", "--json")) == []


async def test_interrupted_uploads_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: set[str] = set()
    waiting = asyncio.Event()

    async def call(self: Api, method: str, path: str, json: Any, params: Any, form: Any, file: Any) -> dict[str, Any]:
        if method == "DELETE":
            kept.remove(path)
            return {}
        if file.name == "slow":
            waiting.set()
            await asyncio.Event().wait()
        kept.add(f"/v1/files/{file.name}")
        return {"id": file.name}

    monkeypatch.setattr(Api, "_call", call)
    files = [Path("a"), Path("b"), Path("slow")]
    api = Api(None, None)  # type: ignore[arg-type]  # neither is reached
    uploading = asyncio.create_task(api._upload_all(files, "assistants", 1, lambda: None))
    await waiting.wait()
    assert len(kept) == 2
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    assert not kept


def test_an_interrupted_run_is_finished_by_the_next(
    manyhats: Manyhats, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def gone(*given: object) -> None:
            raise CommandFailed("interrupted")

        patched.setattr(Api, "read_files", gone)
        manyhats("ingest", folder, "--store", "hb", status=1)
    (store,) = json.loads(manyhats("stores", "list", "--json"))
    assert store["file_counts"]["in_progress"] == 2
    seen = calls(monkeypatch)
    assert manyhats("ingest", folder, "--store", "hb") == "hb: 2 added\n"
    assert ("POST", "/v1/files") not in seen
    assert "2 unchanged" in manyhats("ingest", folder, "--store", "hb")


def test_files_and_stores_one_by_one(manyhats: Manyhats, folder: Path) -> None:
    assert "No files yet" in manyhats("files", "list")
    assert "No vector stores yet" in manyhats("stores", "list")
    made = json.loads(
        manyhats(
            "stores",
            "create",
            "notes",
            "--description",
            "Ours",
            "--expires-days",
            "7",
            "--chunk-tokens",
            "200",
            "--json",
        )
    )
    assert made["expires_after"] == {"anchor": "last_active_at", "days": 7}
    (file,) = json.loads(manyhats("files", "add", folder / "one.md", "--store", "notes", "--json"))
    assert file["filename"] == "one.md"
    assert file["id"] in manyhats("files", "list", "--purpose", "assistants")
    assert "one.md" in manyhats("files", "show", file["id"])
    assert "1 in_progress" in manyhats("stores", "show", "notes")
    manyhats("stores", "reembed", "notes")  # without a server, all that waits is done at once
    assert "1 completed" in manyhats("stores", "show", made["id"])
    assert "no id of a file" in manyhats("files", "remove", f"../vector_stores/{made['id']}", "--yes", status=1)
    manyhats("files", "remove", file["id"], "--yes")
    assert "none" in manyhats("stores", "show", "notes")
    manyhats("stores", "remove", "notes", "--yes")
    assert "No vector stores yet" in manyhats("stores", "list")


@pytest.fixture
def served(manyhats: Manyhats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The routes over a socket, and a thread that reads files: a server of which the command knows the address only."""
    settings = load_settings()
    ended = threading.Event()
    with Offline(settings) as offline, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who asks before uvicorn has begun waits instead of being refused
        server = uvicorn.Server(uvicorn.Config(offline.app, lifespan="off", log_config=None))

        def ingest() -> None:
            ingestion = OfflineIngestion(offline._services)
            while not ended.is_set():
                if not ingestion.step():
                    ended.wait(0.05)

        threads = [threading.Thread(target=server.run, args=([listening],)), threading.Thread(target=ingest)]
        for thread in threads:
            thread.start()
        monkeypatch.setenv("MANYHATS_URL", f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        yield os.environ["MANYHATS_URL"]
        server.should_exit = True
        ended.set()
        for thread in threads:
            thread.join(30)


def test_over_http(served: str, manyhats: Manyhats, folder: Path) -> None:
    for number in range(30):
        (folder / f"{number}.txt").write_text(f"Number {number}: ab cd.")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    said = manyhats("ingest", folder, "--store", "hb", "--jobs", "8", status=1, both=True)
    assert "failed: broken.pdf: " in said
    assert "hb: 32 added, 1 failed" in said
    assert "32 unchanged, 1 failed" in manyhats("ingest", folder, "--store", "hb", status=1, both=True)
    assert "32 completed, 1 failed" in manyhats("stores", "show", "hb")
    assert "in the background" in manyhats("stores", "reembed", "hb")


def test_two_folders_of_one_name_over_http(
    served: str, manyhats: Manyhats, two: tuple[Path, Path], tmp_path: Path
) -> None:
    check_two_folders(manyhats, *two, tmp_path)


def test_no_server_at_the_address(manyhats: Manyhats, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MANYHATS_URL", f"http://127.0.0.1:{bound.getsockname()[1]}")
        assert "no server answers" in manyhats("ingest", folder, "--store", "hb", status=1)


def test_mistakes(manyhats: Manyhats, folder: Path) -> None:
    assert "'nowhere'" in manyhats("stores", "show", "nowhere", status=1)
    assert "file-none" in manyhats("files", "show", "file-none", status=1)
    assert "'../files'" in manyhats("stores", "show", "../files", status=1)
    assert "vs_none" in manyhats("ingest", folder, "--store", "vs_none", status=1)  # an id is never made up
