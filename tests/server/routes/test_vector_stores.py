"""Vector stores through the official client, over real storage, a real ingestion step and real searches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest

from retrieval.ingestion import Ingestion
from retrieval.queue import Queue
from retrieval.stores import Stores
from retrieval.vectors import Vectors
from server.app import create_app
from server.services import Services
from server.threads import run_in

LEASE = b"# Lease\n\nThe tenant must give sixty days of notice before leaving the flat.\n"
WHALES = b"# Whales\n\nThe blue whale is the largest animal that has ever lived on earth.\n"
DAY = 86_400


@pytest.fixture
def ingest(services: Services) -> Callable[[], Any]:
    """Read everything that waits, as the ingestion process does."""
    ingestion = Ingestion(
        Queue(services.database), services.files, Vectors(services.database), services.embedder, holder="test"
    )

    async def work() -> None:
        while await run_in(None, ingestion.step):
            pass

    return work


@pytest.fixture
async def reading(ingest: Callable[[], Any]) -> AsyncIterator[None]:
    """Files are read while the test goes on."""

    async def keep_reading() -> None:
        while True:
            await ingest()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(keep_reading())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def as_caller(services: Services, http: httpx2.AsyncClient) -> Callable[..., openai.AsyncOpenAI]:
    """The official client with a key of its own."""

    def make(name: str, **rights: Any) -> openai.AsyncOpenAI:
        _, secret = services.keys.create(name, **rights)
        return openai.AsyncOpenAI(api_key=secret, base_url="http://127.0.0.1:8000/v1", http_client=http, max_retries=0)

    return make


async def upload(client: openai.AsyncOpenAI, content: bytes = LEASE, name: str = "lease.md") -> str:
    return (await client.files.create(file=(name, content), purpose="assistants")).id


async def found(client: openai.AsyncOpenAI, store: str, query: str = "notice period", **options: Any) -> list[str]:
    return [hit.filename async for hit in client.vector_stores.search(store, query=query, **options)]


async def test_made_listed_changed_removed(client: openai.AsyncOpenAI) -> None:
    made = await client.vector_stores.create(
        name="handbook", metadata={"team": "a"}, expires_after={"anchor": "last_active_at", "days": 3}
    )
    assert (made.object, made.name, made.status, made.usage_bytes) == ("vector_store", "handbook", "completed", 0)
    assert made.file_counts.total == 0
    assert made.expires_after is not None
    assert made.expires_at == made.last_active_at + 3 * DAY
    other = await client.vector_stores.create()
    assert [one.id async for one in client.vector_stores.list(limit=1)] == [other.id, made.id]
    changed = await client.vector_stores.update("handbook", name="rules", metadata={}, expires_after=None)
    assert (changed.id, changed.name, changed.metadata, changed.expires_after) == (made.id, "rules", {}, None)
    shown = await client.vector_stores.retrieve("rules")
    assert shown.id == made.id
    assert shown.model_extra is not None
    assert shown.model_extra["index"].keys() >= {"generation", "dense", "lexical"}
    removed = await client.vector_stores.delete("rules")
    assert (removed.id, removed.object, removed.deleted) == (made.id, "vector_store.deleted", True)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.vector_stores.retrieve(made.id)
    assert caught.value.code == "vector_store_not_found"


@pytest.mark.usefixtures("reading")
async def test_uploaded_polled_searched_and_taken_out(client: openai.AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="flat")
    file = await client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("lease.md", LEASE), poll_interval_ms=10, attributes={"year": 2024}
    )
    assert (file.object, file.status, file.last_error) == ("vector_store.file", "completed", None)
    assert file.attributes == {"year": 2024}
    page = await client.vector_stores.search("flat", query="How long is the notice period?")
    assert page.object == "vector_store.search_results.page"
    assert page.model_extra is not None
    assert page.model_extra["search_query"] == ["How long is the notice period?"]
    [hit] = page.data
    assert (hit.file_id, hit.filename, hit.attributes) == (file.id, "lease.md", {"year": 2024})
    assert "sixty days" in hit.content[0].text
    assert 0 < hit.score <= 1
    [text] = [one async for one in client.vector_stores.files.content(file.id, vector_store_id=store.id)]
    assert text.type == "text"
    assert "sixty days" in str(text.text)
    whole = await client.vector_stores.retrieve(store.id)
    assert (whole.file_counts.completed, whole.usage_bytes > 0) == (1, True)
    gone = await client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    assert (gone.id, gone.object, gone.deleted) == (file.id, "vector_store.file.deleted", True)
    assert await found(client, store.id) == []
    assert (await client.files.retrieve(file.id)).id == file.id


@pytest.mark.usefixtures("reading")
async def test_a_batch_is_uploaded_and_polled(client: openai.AsyncOpenAI) -> None:
    store = await client.vector_stores.create()
    batch = await client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("lease.md", LEASE), ("whales.md", WHALES), ("empty.txt", b" ")], poll_interval_ms=10
    )
    assert batch.object == "vector_store.files_batch"
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 2, 1)
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    [failed] = [file async for file in listed]
    assert failed.last_error is not None
    assert failed.last_error.code == "invalid_file"
    assert failed.last_error.message
    assert await found(client, store.id, "largest animal", max_num_results=1) == ["whales.md"]


async def test_a_batch_of_files_with_their_own_attributes(
    client: openai.AsyncOpenAI, ingest: Callable[[], Any]
) -> None:
    store = await client.vector_stores.create()
    first, second = await upload(client), await upload(client, WHALES, "whales.md")
    batch = await client.vector_stores.file_batches.create(
        store.id,
        files=[
            {"file_id": first, "attributes": {"kind": "law"}},
            {
                "file_id": second,
                "attributes": {"kind": "sea"},
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
                },
            },
        ],
    )
    assert batch.status == "in_progress"
    await ingest()
    assert (await client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id)).status == "completed"
    only = {"type": "eq", "key": "kind", "value": "sea"}
    assert await found(client, store.id, filters=only) == ["whales.md"]
    await client.vector_stores.files.update(first, vector_store_id=store.id, attributes={"kind": "sea"})
    assert sorted(await found(client, store.id, filters=only)) == ["lease.md", "whales.md"]
    split = await client.vector_stores.files.retrieve(second, vector_store_id=store.id)
    assert split.chunking_strategy is not None
    assert split.chunking_strategy.type == "static"


async def test_clients_are_told_to_ask_again_soon(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, ingest: Callable[[], Any]
) -> None:
    store = await client.vector_stores.create(name="handbook")
    file_id = await upload(client)
    batch = await client.vector_stores.file_batches.create(store.id, file_ids=[file_id])
    paths = [f"/v1/vector_stores/{store.id}/{path}" for path in (f"files/{file_id}", f"file_batches/{batch.id}")]
    assert [(await http.get(path)).headers["openai-poll-after-ms"] for path in paths] == ["200", "200"]
    await ingest()
    assert ["openai-poll-after-ms" in (await http.get(path)).headers for path in paths] == [False, False]


async def test_a_cancelled_batch_is_not_read(client: openai.AsyncOpenAI, ingest: Callable[[], Any]) -> None:
    store = await client.vector_stores.create()
    batch = await client.vector_stores.file_batches.create(store.id, file_ids=[await upload(client)])
    cancelled = await client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", 1)
    await ingest()
    assert await found(client, store.id) == []


async def test_a_deleted_file_leaves_every_store_at_once(client: openai.AsyncOpenAI, ingest: Callable[[], Any]) -> None:
    file = await upload(client)
    stores = [await client.vector_stores.create(file_ids=[file]) for _ in range(2)]
    await ingest()
    assert [await found(client, store.id) for store in stores] == [["lease.md"], ["lease.md"]]
    await client.files.delete(file)
    assert [await found(client, store.id) for store in stores] == [[], []]
    assert (await client.vector_stores.retrieve(stores[0].id)).file_counts.total == 0


async def test_a_store_is_made_with_all_its_files_or_not_at_all(client: openai.AsyncOpenAI) -> None:
    file = await upload(client)
    with pytest.raises(openai.NotFoundError, match="file-none"):
        await client.vector_stores.create(file_ids=[file, "file-none"])
    assert [one async for one in client.vector_stores.list()] == []


async def test_several_questions_find_each_passage_once(client: openai.AsyncOpenAI, ingest: Callable[[], Any]) -> None:
    store = await client.vector_stores.create(
        file_ids=[await upload(client), await upload(client, WHALES, "whales.md")]
    )
    await ingest()
    queries = ["notice before leaving the flat", "largest animal on earth", "notice"]
    page = await client.vector_stores.search(store.id, query=queries, rewrite_query=True)
    assert page.model_extra is not None
    assert page.model_extra["search_query"] == queries
    assert sorted(hit.filename for hit in page.data) == ["lease.md", "whales.md"]
    scores = [hit.score for hit in page.data]
    assert scores == sorted(scores, reverse=True)
    alone = await client.vector_stores.search(store.id, query=queries[0], max_num_results=1)
    assert alone.data[0].score == pytest.approx(max(hit.score for hit in page.data if hit.filename == "lease.md"))
    assert len(await found(client, store.id, max_num_results=1)) == 1
    assert await found(client, store.id, ranking_options={"score_threshold": 1.0}) == []


@pytest.mark.parametrize("ranker", ["auto", "none", "default-2024-11-15", "hybrid", "dense", "lexical"])
async def test_every_ranker_finds(client: openai.AsyncOpenAI, ingest: Callable[[], Any], ranker: Any) -> None:
    store = await client.vector_stores.create(file_ids=[await upload(client)])
    await ingest()
    assert await found(client, store.id, "sixty days of notice", ranking_options={"ranker": ranker}) == ["lease.md"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": ["notice", " "]}, "query"),
        ({"query": []}, "query"),
        ({"query": 3}, "query"),
        ({"query": ["x", 3]}, "query"),
        ({"query": "x" * 1_000_000}, "query"),
        ({"query": ["x"] * 17}, "query"),
        ({"query": "x", "max_num_results": 0}, "max_num_results"),
        ({"query": "x", "max_num_results": 51}, "max_num_results"),
        ({"query": "x", "max_num_results": True}, "max_num_results"),
        ({"query": "x", "ranking_options": {"ranker": "best"}}, "ranking_options.ranker"),
        ({"query": "x", "ranking_options": {"ranker": "rerank"}}, "ranking_options.ranker"),
        ({"query": "x", "ranking_options": {"score_threshold": 1.5}}, "ranking_options.score_threshold"),
        ({"query": "x", "ranking_options": {"weight": 1}}, "ranking_options.weight"),
        ({"query": "x", "ranking_options": "auto"}, "ranking_options"),
        ({"query": "x", "filters": {"type": "like", "key": "a", "value": "b"}}, "filters"),
        ({"query": "x", "question": "x"}, "question"),
    ],
)
async def test_bad_searches_are_400(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, body: dict[str, Any], param: str
) -> None:
    store = await client.vector_stores.create()
    answer = await http.post(f"/v1/vector_stores/{store.id}/search", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert error.keys() == {"message", "type", "param", "code"}
    assert str(error["param"]).startswith(param)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"nam": "x"}, "nam"),
        ("", {"name": 3}, "name"),
        ("", {"name": "vs_1"}, "name"),
        ("", {"file_ids": ["x"] * 501}, "file_ids"),
        ("", {"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ("", {"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days"),
        ("", {"chunking_strategy": {"type": "static"}}, "chunking_strategy.static"),
        ("/{id}", {"name": "vs_2"}, "name"),
        ("/{id}", {"file_ids": []}, "file_ids"),
        ("/{id}/files", {}, "file_id"),
        ("/{id}/files", {"file_id": "f", "attributes": {"a": None}}, "attributes.a"),
        ("/{id}/files/f", {}, "attributes"),
        ("/{id}/file_batches", {}, "file_ids"),
        ("/{id}/file_batches", {"file_ids": ["a"], "files": [{"file_id": "a"}]}, "file_ids"),
        ("/{id}/file_batches", {"files": [{"file_id": "a"}], "attributes": {}}, "attributes"),
        ("/{id}/file_batches", {"files": [{"file_id": "a", "attributes": []}]}, "files[0].attributes"),
        ("/{id}/file_batches", {"file_ids": ["a"] * 2001}, "file_ids"),
    ],
)
async def test_bad_bodies_are_400(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, path: str, body: dict[str, Any], param: str
) -> None:
    store = await client.vector_stores.create()
    answer = await http.post(f"/v1/vector_stores{path.format(id=store.id)}", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_unknown_things_are_404(http: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
    store = (await client.vector_stores.create()).id
    file = await upload(client)
    for path, code in {
        "vs_none": "vector_store_not_found",
        "vs_none/files": "vector_store_not_found",
        f"{store}/files/{file}": "vector_store_file_not_found",
        f"{store}/files/{file}/content": "vector_store_file_not_found",
        f"{store}/file_batches/vsfb_none": "file_batch_not_found",
        f"{store}/file_batches/vsfb_none/files": "file_batch_not_found",
    }.items():
        answer = await http.get(f"/v1/vector_stores/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code), path


async def test_an_expired_store_says_so(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, services: Services
) -> None:
    store = await client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    ended = Stores(services.database, clock=lambda: store.created_at + 2.0 * DAY)
    assert ended.expire_due() == 1
    assert (await client.vector_stores.retrieve(store.id)).status == "expired"
    answer = await http.post(f"/v1/vector_stores/{store.id}/search", json={"query": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "vector_store_expired")
    with pytest.raises(openai.BadRequestError, match="expired"):
        await client.vector_stores.files.create(store.id, file_id=await upload(client))


async def test_a_search_moves_the_end_of_its_store(client: openai.AsyncOpenAI, services: Services) -> None:
    store = await client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    old = Stores(services.database, clock=lambda: store.created_at - 3600.0)
    old.update(store.id, changes={})
    before = services.stores.get(store.id).last_active_at
    await found(client, store.id)
    await services.background.wait(f"use of {store.id}")
    assert services.stores.get(store.id).last_active_at > before + 3000


async def test_another_s_store_is_not_there(
    as_caller: Callable[..., openai.AsyncOpenAI], http: httpx2.AsyncClient
) -> None:
    ana, ben, root = as_caller("ana"), as_caller("ben"), as_caller("root", role="admin")
    store = (await ana.vector_stores.create(name="secret")).id
    file = await upload(ana)
    for name in (store, "secret"):
        for method, path in (
            ("GET", ""),
            ("POST", ""),
            ("DELETE", ""),
            ("POST", "/reembed"),
            ("GET", "/files"),
            ("GET", f"/files/{file}"),
            ("GET", f"/files/{file}/content"),
        ):
            answer = await http.request(
                method,
                f"/v1/vector_stores/{name}{path}",
                headers={"authorization": f"Bearer {ben.api_key}"},
                json={} if method == "POST" else None,
            )
            assert answer.status_code == 404, (method, path)
            assert answer.json()["error"]["code"] == "vector_store_not_found"
        with pytest.raises(openai.NotFoundError):
            await found(ben, name)
    assert [one async for one in ben.vector_stores.list()] == []
    assert [one.id async for one in root.vector_stores.list()] == [store]
    assert (await root.vector_stores.retrieve("secret")).id == store


async def test_a_file_is_attached_by_who_owns_both(as_caller: Callable[..., openai.AsyncOpenAI]) -> None:
    ana, ben, root = as_caller("ana"), as_caller("ben"), as_caller("root", role="admin")
    file = await upload(ana)
    theirs = await ben.vector_stores.create()
    with pytest.raises(openai.NotFoundError) as caught:
        await ben.vector_stores.files.create(theirs.id, file_id=file)
    assert caught.value.code == "file_not_found"
    with pytest.raises(openai.NotFoundError):
        await ben.vector_stores.file_batches.create(theirs.id, file_ids=[file])
    with pytest.raises(openai.NotFoundError):
        await ben.vector_stores.create(file_ids=[file])
    with pytest.raises(openai.NotFoundError):
        await ana.vector_stores.files.create(theirs.id, file_id=file)
    assert (await root.vector_stores.files.create(theirs.id, file_id=file)).status == "in_progress"


async def test_a_shared_store_is_searched_and_not_read(
    as_caller: Callable[..., openai.AsyncOpenAI], ingest: Callable[[], Any]
) -> None:
    ana, ben = as_caller("ana"), as_caller("ben", stores=["hand*"])
    store = await ana.vector_stores.create(name="handbook", file_ids=[await upload(ana)])
    await ingest()
    assert await found(ben, "handbook") == ["lease.md"]
    assert await found(ben, store.id) == ["lease.md"]
    assert [one async for one in ben.vector_stores.list()] == []
    with pytest.raises(openai.NotFoundError):
        await ben.vector_stores.retrieve("handbook")
    with pytest.raises(openai.NotFoundError):
        await ben.vector_stores.delete("handbook")


async def test_a_name_of_several_stores_lists_them(client: openai.AsyncOpenAI) -> None:
    ids = [(await client.vector_stores.create(name="twin")).id for _ in range(2)]
    with pytest.raises(openai.BadRequestError) as caught:
        await client.vector_stores.retrieve("twin")
    assert caught.value.code == "vector_store_ambiguous"
    assert all(one in caught.value.message for one in ids)


async def test_a_failed_search_is_an_error(services: Services) -> None:
    class Broken:
        async def vectors(self, texts: Any) -> Any:
            raise MemoryError("no room")

    app = create_app(replace(services, query_vectors=Broken()))  # type: ignore[arg-type]  # as far as a search knows
    store = services.stores.create("local")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1") as http:
        answer = await http.post(f"/v1/vector_stores/{store.id}/search", json={"query": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "search_failed")
        assert "no room" not in answer.text
        words = {"query": "x", "ranking_options": {"ranker": "lexical"}}
        assert (await http.post(f"/v1/vector_stores/{store.id}/search", json=words)).status_code == 200


async def test_reembedding_is_asked_for(http: httpx2.AsyncClient, services: Services) -> None:
    store = services.stores.create("local", name="old")
    answer = await http.post("/v1/vector_stores/old/reembed")
    assert (answer.status_code, answer.json()["id"]) == (202, store.id)
    assert services.reembeddings.claim("x", services.embedder.fingerprint) is not None


async def test_the_text_of_a_file_comes_in_pages(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, ingest: Callable[[], Any]
) -> None:
    words = " ".join(f"Sentence number {n} says something of its own." for n in range(200)).encode()
    store = await client.vector_stores.create(
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    )
    file = await upload(client, words, "long.txt")
    await client.vector_stores.files.create(store.id, file_id=file)
    await ingest()
    url = f"/v1/vector_stores/{store.id}/files/{file}/content"
    whole = (await http.get(url)).json()
    assert (whole["object"], whole["has_more"], whole["next_page"]) == ("vector_store.file_content.page", False, None)
    pieces: list[str] = []
    page: dict[str, Any] = {"next_page": None, "has_more": True}
    while page["has_more"]:
        after = {"page": page["next_page"]} if page["next_page"] else {}
        page = (await http.get(url, params={"limit": 7, **after})).json()
        pieces += [one["text"] for one in page["data"]]
    assert pieces == [one["text"] for one in whole["data"]]
    assert len(pieces) > 14
    for beyond in (2**31, 10**30, -1):
        refused = await http.get(url, params={"page": beyond})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "page")


async def test_metrics_tell_of_files_and_searches(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, ingest: Callable[[], Any]
) -> None:
    store = await client.vector_stores.create(file_ids=[await upload(client)])
    waiting = (await http.get("/metrics")).text
    assert 'manyhats_ingestion_queue{state="waiting"} 1.0' in waiting
    await ingest()
    await found(client, store.id)
    text = (await http.get("/metrics")).text
    assert 'manyhats_ingestion_queue{state="waiting"} 0.0' in text
    assert 'manyhats_store_files{status="completed"} 1.0' in text
    assert "manyhats_vector_stores 1.0" in text
    for stage in ("stores", "embed", "search"):
        assert f'manyhats_retrieval_seconds_count{{stage="{stage}"}} 1.0' in text
    assert "manyhats_index_bytes" in text
