"""`kill -9` of the whole server, five times, while clients upload, attach, delete and search over HTTP.

Every file has a word of its own, so that a search for that word tells whether the right passage comes, and nothing of
a deleted one. The engine is the scripted one: no text is generated here, and its own kills have their own proof.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from bench.retrieval.client import connect
from bench.servers import Server, ours

pytestmark = pytest.mark.prove

KILLS = 5
SETTLE_SECONDS = 300
SEARCH_SECONDS = 5.0  # from a ready server to its first answer
NO_ANSWER = (openai.APIConnectionError, openai.InternalServerError, httpx.HTTPError)


@dataclass
class Journal:
    """What was acknowledged; a step that was not is in neither state for sure."""

    store_id: str = ""
    there: dict[str, str] = field(default_factory=dict)  # file id → its word
    attached: set[str] = field(default_factory=set)
    gone: dict[str, str] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)  # being deleted when the server was killed
    words: int = 0


def test_the_whole_server_killed_five_times(tmp_path: Path):
    before, dice, journal = set(psutil.pids()), random.Random(7), Journal()
    for kill in range(KILLS):
        server = start(tmp_path)
        check(server, journal)
        with clients(server, journal, dice):
            time.sleep(dice.uniform(2.0, 9.0))
            processes = list(server.processes().values())
            families = [one for process in processes for one in [process, *process.children(recursive=True)]]
            for process in processes:  # the parent first, so that it starts nothing anew
                process.kill()
            server.process.wait(30)
            _, alive = psutil.wait_procs(families, timeout=30)
            assert not alive, f"killed, and still there: {alive}"
        print(
            f"kill {kill + 1}: {len(journal.there)} files, {len(journal.attached)} attached, {len(journal.gone)} gone"
        )
    server = start(tmp_path)
    try:
        check(server, journal)
    finally:
        server.stop()
    left = [pid for pid in set(psutil.pids()) - before if is_ours(pid, tmp_path)]
    assert not left


def start(folder: Path) -> Server:
    return ours({"MANYHATS_ENGINE": "fake"}, folder=folder)


def check(server: Server, journal: Journal) -> None:
    """Everything that was acknowledged is there, has ended well, and is found; what was deleted is not."""
    with connect(server.port) as api:
        check_over(api, journal)


def check_over(api: openai.OpenAI, journal: Journal) -> None:
    if not journal.store_id:
        journal.store_id = api.vector_stores.create(name="proof").id
        return
    for file_id, word in list(journal.unsure.items()):  # either way is right; from now on it is one of them
        present = file_id in {file.id for file in api.files.list()}
        (journal.there if present else journal.gone)[file_id] = word
    journal.unsure.clear()
    first = time.monotonic()
    api.vector_stores.search(journal.store_id, query="anything")
    assert time.monotonic() - first < SEARCH_SECONDS
    for file_id, word in journal.there.items():
        assert api.files.content(file_id).text == text_of(word)
    for file_id in journal.gone:
        with pytest.raises(openai.NotFoundError):
            api.files.retrieve(file_id)
    deadline = time.monotonic() + SETTLE_SECONDS
    while api.vector_stores.retrieve(journal.store_id).file_counts.in_progress:
        assert time.monotonic() < deadline, "files were never read"
        time.sleep(0.2)
    for file_id in journal.attached & journal.there.keys():
        attached = api.vector_stores.files.retrieve(file_id, vector_store_id=journal.store_id)
        assert attached.status == "completed", attached.last_error
    for ranker in ("lexical", "hybrid"):
        for file_id, word in [*journal.there.items(), *journal.gone.items()]:
            page = api.vector_stores.search(
                journal.store_id, query=word, max_num_results=5, extra_body={"ranking_options": {"ranker": ranker}}
            )
            for hit in page.data:
                assert hit.file_id not in journal.gone, "a deleted file was found"
                known = journal.there.get(hit.file_id)
                assert known is None or known in hit.content[0].text, "a row of another file"
            if file_id in journal.attached and file_id in journal.there:
                assert page.data, f"{word} is not found by {ranker}"
                assert page.data[0].file_id == file_id


@contextmanager
def clients(server: Server, journal: Journal, dice: random.Random) -> Iterator[None]:
    """One client that changes things and notes what is acknowledged, and two that search."""
    failures: list[BaseException] = []

    def change() -> None:
        try:
            with connect(server.port) as api:
                while True:
                    change_once(api, journal, dice)
        except NO_ANSWER:
            return  # the server is gone
        except BaseException as error:
            failures.append(error)

    def search() -> None:
        try:
            with connect(server.port) as api:
                while True:
                    api.vector_stores.search(journal.store_id, query="the office of the harbour")
        except NO_ANSWER:
            return
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for work in (change, search, search)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(60)
    assert not failures, failures


def change_once(api: openai.OpenAI, journal: Journal, dice: random.Random) -> None:
    if journal.attached and dice.random() < 0.25:
        file_id = dice.choice(sorted(journal.attached & journal.there.keys()))
        journal.unsure[file_id] = journal.there.pop(file_id)
        api.files.delete(file_id)
        journal.gone[file_id] = journal.unsure.pop(file_id)
        journal.attached.discard(file_id)
        return
    journal.words += 1
    word = f"qz{journal.words}xk"
    file = api.files.create(file=(f"{word}.txt", text_of(word).encode()), purpose="assistants")
    journal.there[file.id] = word
    if dice.random() < 0.9:
        api.vector_stores.files.create(journal.store_id, file_id=file.id)
        journal.attached.add(file.id)


def text_of(word: str) -> str:
    return f"The office of {word} lies by the harbour. Whoever asks for {word} is sent to the second floor."


def is_ours(pid: int, folder: Path) -> bool:
    try:
        return str(folder) in psutil.Process(pid).environ().get("MANYHATS_DATA_DIR", "")
    except psutil.Error:
        return False
