"""Files through OpenAI's client, on the running product."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types import VectorStore

from tests.e2e.library import SOON_MS


def test_created_retrieved_read_listed_and_deleted(client: openai.OpenAI, tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    path = tmp_path / "maré — cheia.bin"
    path.write_bytes(content)
    made = client.files.create(file=path, purpose="user_data")
    assert made.object == "file"
    assert made.filename == path.name
    assert made.bytes == len(content)
    assert made.purpose == "user_data"
    assert made.status == "processed"
    assert abs(made.created_at - time.time()) < 60
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    assert made.id in [file.id for file in client.files.list(purpose="user_data")]
    assert made.id not in [file.id for file in client.files.list(purpose="fine-tune")]
    deleted = client.files.delete(made.id)
    assert deleted.deleted
    for missing in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=made.id):
            missing(made.id)


def test_lists_are_read_page_by_page(client: openai.OpenAI) -> None:
    made = [client.files.create(file=(f"{n}.txt", b"one of five"), purpose="user_data").id for n in range(5)]
    first = client.files.list(purpose="user_data", limit=2, order="asc")
    assert [file.id for file in first.data] == made[:2]
    assert first.has_more
    assert [file.id for file in first] == made  # the client asks for the pages that follow
    assert [file.id for file in client.files.list(purpose="user_data", limit=3)] == made[::-1]
    for file_id in made:
        client.files.delete(file_id)


def test_an_end_may_be_given(client: openai.OpenAI) -> None:
    made = client.files.create(
        file=("soon.txt", b"for an hour"),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert made.expires_at == made.created_at + 3600
    client.files.delete(made.id)
    with pytest.raises(openai.BadRequestError, match="seconds") as caught:
        client.files.create(
            file=("a.txt", b"a"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 1}
        )
    assert caught.value.type == "invalid_request_error"


def test_a_purpose_that_is_none_is_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose") as caught:
        client.files.create(file=("a.txt", b"a"), purpose="lunch")  # type: ignore[arg-type]  # that is the test
    assert caught.value.param == "purpose"


def test_content_is_for_saving_and_never_shown(client: openai.OpenAI, http: httpx2.Client) -> None:
    made = client.files.create(file=("page.html", b"<script>alert(1)</script>"), purpose="assistants")
    answer = http.get(f"/v1/files/{made.id}/content")
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    client.files.delete(made.id)


def test_deleting_a_file_reaches_every_store_and_the_next_search(client: openai.OpenAI, store: VectorStore) -> None:
    other = client.vector_stores.create(name="another")
    gone, left = (
        client.files.create(file=(f"{word}.txt", f"The word of the day is {word}.".encode()), purpose="assistants").id
        for word in ("anemone", "barnacle")
    )
    for vector_store_id in (store.id, other.id):
        batch = client.vector_stores.file_batches.create_and_poll(
            vector_store_id, file_ids=[gone, left], poll_interval_ms=SOON_MS
        )
        assert batch.file_counts.completed == 2
        found = client.vector_stores.search(vector_store_id, query="the word of the day")
        assert {result.file_id for result in found} == {gone, left}
    client.files.delete(gone)
    for vector_store_id in (store.id, other.id):
        for ranker in ("hybrid", "dense", "lexical"):
            options: Any = {"ranker": ranker}
            found = client.vector_stores.search(
                vector_store_id, query="the word of the day is anemone", ranking_options=options
            )
            assert {result.file_id for result in found} == {left}
        assert [file.id for file in client.vector_stores.files.list(vector_store_id)] == [left]
        assert client.vector_stores.retrieve(vector_store_id).file_counts.total == 1
        with pytest.raises(openai.NotFoundError):
            client.vector_stores.files.retrieve(gone, vector_store_id=vector_store_id)
    client.vector_stores.delete(other.id)
    assert client.files.retrieve(left).id == left  # a store's end is not its files'
