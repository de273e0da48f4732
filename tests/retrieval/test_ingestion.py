"""Rounds of ingestion over a real database, real files and the real splitter; the vectors come from hashes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from retrieval import heavy, ingestion, tables
from retrieval.attachments import Entry
from retrieval.heavy import Heavy, Stopped
from retrieval.ingestion import BATCH_WINDOWS, MOST_ATTEMPTS, text_digest
from retrieval.queue import Queue
from server.storage.database import Database
from tests.retrieval.works import House, prose


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with closing(Database(f"sqlite:///{tmp_path / 'manyhats.db'}")) as database:
        database.migrate()
        yield House(database, tmp_path)


def test_nothing_to_do(house: House) -> None:
    assert not house.worker().step()


def test_a_file_becomes_chunks_with_their_vectors(house: House) -> None:
    text = prose(600)
    file_id = house.attach(text)
    assert house.worker().step()
    done = house.file(file_id)
    assert (done.status, done.error_code) == ("completed", None)
    assert done.chunks_done == done.chunks_total == len(house.texts(file_id)) > 1
    assert done.usage_bytes > len(text)
    assert all(part in text for part in house.texts(file_id))
    with house.database.read() as connection:
        stored = {row.digest: row.vector for row in connection.execute(sa.select(tables.vectors))}
    for part in house.texts(file_id):
        assert np.allclose(np.frombuffer(stored[text_digest(part)], np.float32), house.embedder.vector(part))


@pytest.mark.parametrize(
    ("content", "name", "code"),
    [
        (b"%PDF-1.7\nand then nothing that a PDF has", "broken.pdf", "invalid_file"),
        (b"\x7fELF\x02\x01\x01" + bytes(200), "program", "unsupported_file"),
        (b" \n\t \n", "blank.txt", "invalid_file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(house: House, content: bytes, name: str, code: str) -> None:
    good = house.attach("The office opens at nine.")
    bad = house.attach(content, name)
    house.work()
    failed = house.file(bad)
    assert (failed.status, failed.error_code) == ("failed", code)
    assert failed.error_message
    assert house.file(good).status == "completed"


def test_known_content_is_not_embedded_again(house: House) -> None:
    house.attach(prose(300))
    house.work()
    before = len(house.embedder.embedded)
    other = house.stores.create("ana", name="copy").id
    again = house.attach(prose(300), "copy.txt", store_id=other)
    house.work()
    assert house.file(again, other).status == "completed"
    assert len(house.embedder.embedded) == before


def test_small_files_share_batches_and_none_is_larger_than_64(house: House) -> None:
    ids = [house.attach(f"File {i} has one sentence.", f"{i}.txt") for i in range(20)]
    long = house.attach(prose(240 * 150), "long.txt")
    house.work()
    assert {house.file(file_id).status for file_id in [*ids, long]} == {"completed"}
    assert max(len(batch) for batch in house.embedder.batches) == BATCH_WINDOWS
    assert {text for text in house.embedder.batches[0] if text.startswith("File")} == {
        f"File {i} has one sentence." for i in range(20)
    }


def test_progress_is_told_after_each_batch(house: House) -> None:
    file_id = house.attach(prose(240 * 150))
    seen: list[tuple[int, int]] = []
    house.embedder.before = lambda _: seen.append((house.file(file_id).chunks_done, house.file(file_id).chunks_total))
    house.work()
    assert seen[0] == (0, 0)
    assert 0 < seen[1][0] < seen[2][0] < seen[2][1] == house.file(file_id).chunks_total


def test_a_failure_that_passes_is_tried_again_later(house: House) -> None:
    def fail_once(_: Sequence[str]) -> None:
        house.embedder.before = lambda _: None
        raise MemoryError("no room for the batch")

    file_id = house.attach("The office opens at nine.")
    house.embedder.before = fail_once
    assert house.worker().step()
    assert house.file(file_id).status == "in_progress"
    assert not house.worker().step()  # not due yet
    house.now += 10
    assert house.worker().step()
    assert house.file(file_id).status == "completed"
    assert house.file(file_id).error_message is None


def test_a_failure_that_stays_ends_the_file(house: House) -> None:
    def fail(_: Sequence[str]) -> None:
        raise MemoryError("no room for the batch")

    file_id = house.attach("The office opens at nine.")
    house.embedder.before = fail
    for _ in range(MOST_ATTEMPTS):
        house.work()
        house.now += 1000
    failed = house.file(file_id)
    assert (failed.status, failed.error_code) == ("failed", "server_error")


def test_bytes_that_were_taken_away_end_the_file(house: House) -> None:
    file_id = house.attach("The office opens at nine.")
    house.files.path(house.files.get(file_id, None)).unlink()
    for _ in range(MOST_ATTEMPTS):
        house.work()
        house.now += 1000
    assert house.file(file_id).status == "failed"


def test_bytes_that_cannot_be_fetched_now_are_no_file_s_fault(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    file_id = house.attach("The office opens at nine.")
    find = house.files.path_of

    def down(_: str) -> Path:
        raise ConnectionError("the store of bytes does not answer")

    monkeypatch.setattr(house.files, "path_of", down)
    for _ in range(2 * MOST_ATTEMPTS):
        with pytest.raises(ConnectionError):
            house.worker().step()
    monkeypatch.setattr(house.files, "path_of", find)
    assert house.worker().step()  # at once: it was given back
    assert house.file(file_id).status == "completed"


def test_a_queue_that_does_not_answer_is_no_file_s_fault(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy, "MEANWHILE_SECONDS", -1.0)
    monkeypatch.setattr(heavy, "TICK_SECONDS", 0.001)
    file_id = house.attach("The office opens at nine.")
    asked = threading.Event()  # the work goes on until the queue was to be told that it does
    house.embedder.before = lambda _: asked.wait(10) and None

    def away(_self: Queue, _job: object, **_progress: object) -> bool:
        asked.set()
        raise ConnectionError("the database does not answer")

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as outage:
        outage.setattr(Queue, "renew", away)
        for _ in range(2 * MOST_ATTEMPTS):
            with pytest.raises(ConnectionError):
                house.worker(heavy=Heavy(pool)).step()
    house.work()  # at once: it was given back, and nothing was counted
    assert house.file(file_id).status == "completed"


def test_a_cancelled_file_is_given_up_between_two_batches(house: House) -> None:
    file_id = house.upload(prose(240 * 150))
    batch = house.attachments.attach_batch(house.store_id, [Entry(file_id=file_id)])
    house.embedder.before = lambda _: house.attachments.cancel_batch(house.store_id, batch.id)
    house.work()
    assert len(house.embedder.batches) == 1
    assert house.file(file_id).status == "cancelled"
    assert house.count(tables.chunks) == 0


def test_a_file_that_is_deleted_meanwhile_leaves_nothing(house: House) -> None:
    file_id = house.attach("The office opens at nine.")
    house.embedder.before = lambda _: house.files.delete(file_id, None) and None
    house.work()
    assert house.count(tables.chunks) == house.count(tables.windows) == house.count(tables.attachments) == 0


def test_told_to_stop_it_gives_its_files_back(house: House) -> None:
    stop = threading.Event()
    file_id = house.attach(prose(240 * 150))
    house.embedder.before = lambda _: stop.set()
    with pytest.raises(Stopped):
        house.worker(heavy=Heavy(None, stop)).step()
    assert house.file(file_id).status == "in_progress"
    first = set(house.embedder.embedded)
    house.embedder.before = lambda _: None
    house.work()
    assert house.file(file_id).status == "completed"
    assert len(house.embedder.embedded) == len(set(house.embedder.embedded))  # nothing twice
    assert first < set(house.embedder.embedded)


class Killed(BaseException):
    """What no `except Exception` sees."""


def test_a_long_file_that_comes_further_is_not_blamed_for_kills(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "MOST_STARTS", 3)
    file_id = house.attach(prose(240 * 400))
    done: list[int] = []

    def kill_at_the_second(_: Sequence[str]) -> None:
        if len(house.embedder.batches) > sum(done):
            done.append(1)
            raise Killed

    house.embedder.before = kill_at_the_second
    while house.file(file_id).status == "in_progress":
        with suppress(Killed):
            house.worker().step()
    assert len(done) > 3
    assert house.file(file_id).status == "completed"


def test_only_the_file_that_is_worked_on_is_blamed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "MOST_STARTS", 6)
    deadly, good = house.attach("Deadly words."), house.attach(prose(240 * 3))

    def kill(texts: Sequence[str]) -> None:
        if any("Deadly" in text for text in texts):
            raise Killed

    house.embedder.before = kill
    for _ in range(20):
        with suppress(Killed):
            house.worker().step()
    assert (house.file(deadly).status, house.file(deadly).error_code) == ("failed", "server_error")
    assert house.file(good).status == "completed"


def test_after_a_kill_only_the_batch_in_flight_is_embedded_again(house: House) -> None:
    def kill(_: Sequence[str]) -> None:
        if len(house.embedder.batches) == 2:
            raise Killed

    file_id = house.attach(prose(240 * 250))
    house.embedder.before = kill
    with pytest.raises(Killed):
        house.worker().step()
    house.embedder.before = lambda _: None
    house.queue.release("worker")
    house.work()
    assert house.file(file_id).status == "completed"
    assert len(house.embedder.embedded) == len(set(house.embedder.embedded))


def test_a_long_file_lets_a_short_one_go_ahead(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    time = 0.0
    order: list[str] = []

    def pass_time(_: Sequence[str]) -> None:
        nonlocal time
        time += 100.0
        if len(house.embedder.batches) == 1:
            house.now += 1
            house.attach("The office opens at nine.", "short.txt")

    monkeypatch.setattr(
        ingestion.Queue, "complete", _recorded(ingestion.Queue.complete, lambda job: order.append(job.filename))
    )
    house.attach(prose(240 * 250), "long.txt")
    house.embedder.before = pass_time
    worker = house.worker(clock=lambda: time)
    while worker.step():
        house.now += 1
    assert order == ["short.txt", "long.txt"]
    assert len(house.embedder.embedded) == len(set(house.embedder.embedded))


def test_a_file_that_may_have_ended_the_process_is_worked_off_last(house: House) -> None:
    suspect = house.attach(prose(20, "suspect"), "suspect.txt")
    for _ in range(3):
        job = house.queue.claim("worker")
        assert job is not None
        house.queue.begin(job)
        house.queue.release("worker")
    house.attach(prose(20, "innocent"), "innocent.txt")
    house.work()
    assert [batch[0][:8] for batch in house.embedder.batches] == ["innocent", "suspect0"]
    assert house.file(suspect).status == "completed"


def test_the_heavy_thread_is_another_one(house: House) -> None:
    threads: set[str] = set()
    house.embedder.before = lambda _: threads.add(threading.current_thread().name)
    file_id = house.attach("The office opens at nine.")
    with ThreadPoolExecutor(1, "heavy") as pool:
        house.worker(heavy=Heavy(pool)).step()
    assert house.file(file_id).status == "completed"
    assert threads == {"heavy_0"}


def _recorded(complete: Callable[..., bool], note: Callable[[object], None]) -> Callable[..., bool]:
    def completed(self: Queue, job: object, *more: object) -> bool:
        note(job)
        return complete(self, job, *more)

    return completed
