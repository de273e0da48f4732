"""The whole of `manyhats serve` without a model: its processes, a data directory, and the command line beside them."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from server import probe
from server.settings import DEMO_DIR
from server.storage.data_lock import read_address
from tests.e2e.library import SOON_MS, retrieval

LONG = 120.0  # seconds; the first start imports torch and reads the base model on a cold disk
ADAPTER = str(min((DEMO_DIR / "adapters").iterdir()))


class Served:
    """A running `manyhats serve --engine fake`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MANYHATS_")}
        self.env = clean | {"MANYHATS_DATA_DIR": str(data_dir), "MANYHATS_ENGINE": "fake", "MANYHATS_PORT": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve"],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def banner(self) -> str:
        """What it prints each time that it has become ready, up to the line to try."""
        lines: list[str] = []
        assert self.process.stdout
        for line in self.process.stdout:
            lines.append(line)
            if "curl" in line:
                return "".join(lines)
        pytest.fail(f"it ended with {self.process.wait()} before it was ready")

    @property
    def address(self) -> str:
        """Where it listens, as the command line finds it."""
        found = read_address(self.data_dir)
        assert found
        return found

    def child(self, command: str) -> psutil.Process:
        """The process of this command: `api` answers HTTP, `ingestion` reads files."""
        (found,) = (child for child in psutil.Process(self.process.pid).children() if command in child.cmdline())
        return found

    def client(self, key: str = "none-needed") -> openai.OpenAI:
        """OpenAI's client, once the running server knows the key."""
        client = openai.OpenAI(api_key=key, base_url=f"{self.address}/v1", max_retries=0, timeout=LONG)
        while True:
            try:
                client.models.list()
            except openai.AuthenticationError:
                threading.Event().wait(0.05)  # within a second, by the change feed
            else:
                return client

    def key(self, name: str, *words: str, **env: str) -> str:
        """A new key's secret."""
        made = self.manyhats("keys", "create", name, "--json", *words, **env)
        assert made.returncode == 0, made.stderr
        return str(json.loads(made.stdout)["key"])

    def manyhats(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The command line, on the same data directory."""
        return subprocess.run(
            [sys.executable, "-m", "server", *words], env=self.env | env, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served") / "data")
    watchdog = threading.Timer(LONG * 2, server.process.kill)
    watchdog.start()
    yield server
    watchdog.cancel()
    server.process.kill()
    server.process.wait()
    assert server.process.stdout
    server.process.stdout.close()


def test_the_banner_says_what_to_try(served: Served) -> None:
    banner = served.banner()
    assert served.address in banner
    assert "demo" in banner
    assert probe.is_ready(served.address)


def test_the_command_line_finds_the_server(served: Served) -> None:
    added = served.manyhats("adapters", "add", ADAPTER, "--name", "mine", "--json")
    assert added.returncode == 0, added.stderr
    assert "mine" in probe.list_models(served.address).names  # the running server knows it
    version = json.loads(added.stdout)["version"]["id"]
    assert version in served.manyhats("adapters", "list").stdout
    assert "mine" in served.manyhats("adapters", "list", "--url", served.address).stdout


def test_a_second_server_is_refused_and_says_where_the_first_is(served: Served) -> None:
    second = served.manyhats("serve")
    assert second.returncode == 1
    assert served.address in second.stderr


def test_files_are_read_though_the_process_that_reads_them_is_killed(served: Served) -> None:
    with served.client() as client:
        store = client.vector_stores.create(name="tides")
        files = [(f"{n}.txt", f"Tide {n} comes at {n} minutes past noon.".encode()) for n in range(40)]
        file_ids = [client.files.create(file=file, purpose="assistants").id for file in files]
        batch = client.vector_stores.file_batches.create(store.id, file_ids=file_ids)
        killed = served.child("ingestion")
        killed.kill()
        read = client.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id, poll_interval_ms=SOON_MS)
        assert read.file_counts.completed == 40
        assert served.child("ingestion").pid != killed.pid
        (found,) = client.vector_stores.search(store.id, query="When does tide 33 come?", max_num_results=1)
        assert found.filename == "33.txt"


def test_the_api_process_comes_back_on_the_same_address_after_a_kill(served: Served) -> None:
    address, killed, reader = served.address, served.child("api"), served.child("ingestion")
    killed.kill()
    banner = served.banner()
    assert address in banner
    assert served.child("api").pid != killed.pid
    assert served.child("ingestion").pid == reader.pid  # one does not take the other with it
    assert "mine" in probe.list_models(address).names  # what was registered is there
    with served.client() as client:
        answer: Any = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "When does tide 33 come?"}],
            extra_body={"retrieval": {"vector_store_ids": ["tides"], "max_num_results": 1}},
        )
        assert [source["filename"] for source in retrieval(answer)["sources"]] == ["33.txt"]


@pytest.fixture(scope="module")
def ops(served: Served) -> str:
    """An administrator's key, the first that is made."""
    return served.key("ops", "--role", "admin")


def test_a_key_made_beside_the_server_closes_it(served: Served, ops: str) -> None:
    while not probe.list_models(served.address).needs_key:  # within a second, by the change feed
        threading.Event().wait(0.05)
    refused = served.manyhats("adapters", "list")
    assert refused.returncode == 1
    assert "MANYHATS_API_KEY" in refused.stderr
    allowed = served.manyhats("adapters", "list", MANYHATS_API_KEY=ops)
    assert "mine" in allowed.stdout


def test_what_a_key_may_not_see_is_not_found(served: Served, ops: str) -> None:
    """An owner's files and stores are its own; a key may share a store to be searched, an assistant to be asked."""
    admin = {"MANYHATS_API_KEY": ops}
    alice, bob, carol, chief = (
        served.client(key)
        for key in (
            served.key("alice", **admin),
            served.key("bob", "--store", "alice-*", **admin),
            served.key("carol", **admin),
            ops,
        )
    )
    note = _stored(alice, "alice-notes", "The gull is called Gustav.")
    rule = _stored(chief, "house-rules", "Nobody feeds the gull.")
    _make_assistant(chief, "housekeeper", "house-rules")
    listed = [store.name for store in alice.vector_stores.list()]
    assert listed == ["alice-notes"]
    assert {"alice-notes", "house-rules", "tides"} <= {store.name for store in chief.vector_stores.list()}
    question = "What about the gull?"
    for friend in (alice, bob):
        assert _sources(friend, "demo", question, "alice-notes") == [note]
        (found,) = friend.vector_stores.search("alice-notes", query=question)
        assert found.file_id == note
    for stranger in (bob, carol):
        for ask in (
            lambda them: them.vector_stores.retrieve("alice-notes"),
            lambda them: them.vector_stores.delete("alice-notes"),
            lambda them: them.vector_stores.files.list("alice-notes"),
            lambda them: them.vector_stores.files.content(note, vector_store_id="alice-notes"),
            lambda them: them.files.retrieve(note),
            lambda them: them.files.content(note),
            lambda them: them.files.delete(note),
            lambda them: them.vector_stores.files.create("alice-notes", file_id=note),
            lambda them: them.vector_stores.create(file_ids=[note]),
            lambda them: them.vector_stores.search("house-rules", query=question),
            lambda them: _sources(them, "demo", question, "house-rules"),
        ):
            with pytest.raises(openai.NotFoundError):
                ask(stranger)
        assert [store.id for store in stranger.vector_stores.list()] == []
        assert _sources(stranger, "housekeeper", question) == [rule]  # its name is the right to be answered from it
    with pytest.raises(openai.NotFoundError):
        carol.vector_stores.search("alice-notes", query=question)
    with pytest.raises(openai.NotFoundError):
        _sources(carol, "housekeeper", question, "alice-notes")
    assert alice.files.retrieve(note).id == note
    for client in (alice, bob, carol, chief):
        client.close()


def _stored(client: openai.OpenAI, name: str, text: str) -> str:
    """The id of a file in a new store."""
    store = client.vector_stores.create(name=name)
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=(f"{name}.txt", text.encode()), poll_interval_ms=SOON_MS
    )
    assert file.status == "completed", file.last_error
    return file.id


def _make_assistant(client: openai.OpenAI, name: str, store: str) -> None:
    body = {
        "name": name,
        "model": "demo",
        "tools": [{"type": "file_search"}],
        "tool_resources": {"file_search": {"vector_store_ids": [store]}},
    }
    client.post("/assistants", body=body, cast_to=object)


def _sources(client: openai.OpenAI, model: str, question: str, *stores: str) -> list[str]:
    """The ids of the files that an answer was made from."""
    asked = {"retrieval": {"vector_store_ids": list(stores)}} if stores else {}
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], extra_body=asked
    )
    return [source["file_id"] for source in retrieval(answer)["sources"]]


def test_sigterm_ends_it_and_leaves_nothing(served: Served) -> None:
    address, children = served.address, [served.child("api"), served.child("ingestion")]
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(LONG) == 0
    assert not any(child.is_running() for child in children)
    assert read_address(served.data_dir) is None
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/health", timeout=5)


def test_without_a_server_the_command_line_works_on_the_data_directory(served: Served) -> None:
    listed = served.manyhats("adapters", "list", "--json")
    assert "mine" in {one["name"] for one in json.loads(listed.stdout)}
    found = served.manyhats("stores", "search", "tides", "When does tide 33 come?", "--json")
    assert json.loads(found.stdout)[0]["filename"] == "33.txt"


def test_after_a_restart_everything_is_found_again(served: Served, ops: str) -> None:
    again = Served(served.data_dir)
    try:
        again.banner()
        with again.client(ops) as client:
            assert {"tides", "alice-notes", "house-rules"} <= {store.name for store in client.vector_stores.list()}
            for ranker in ("hybrid", "dense", "lexical"):
                options: Any = {"ranker": ranker}
                found = client.vector_stores.search("tides", query="tide 33", ranking_options=options)
                assert found.data[0].filename == "33.txt"
            assert client.files.content(found.data[0].file_id).read().startswith(b"Tide 33")
    finally:
        again.process.send_signal(signal.SIGTERM)
        again.process.communicate(timeout=LONG)


def test_a_model_that_is_none_ends_it_with_its_reason(tmp_path: Path) -> None:
    server = Served(tmp_path / "data")
    server.process.kill()
    server.process.communicate()
    env = server.env | {"MANYHATS_MODEL": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "server", "serve"], env=env, capture_output=True, text=True, check=False, timeout=LONG
    )
    assert ended.returncode == 1
    assert str(tmp_path) in ended.stderr
    assert "ended once before it was ready" in ended.stderr
