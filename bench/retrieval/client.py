"""The official client's way to fill a store and to search it, in as many threads as help."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
from openai.types import VectorStore

BATCH_FILES = 2000  # the most that one batch takes
POLL_SECONDS = 0.5


def connect(port: int) -> openai.OpenAI:
    """A client that no proxy of the environment comes between."""
    return openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="none-needed",
        max_retries=0,
        http_client=httpx.Client(trust_env=False, timeout=600),
    )


def upload(client: openai.OpenAI, documents: Mapping[str, str]) -> dict[str, str]:
    """Every document as a text file; file ids by document."""

    def one(name: str) -> str:
        return client.files.create(file=(f"{name}.txt", documents[name].encode()), purpose="assistants").id

    with ThreadPoolExecutor(8) as threads:
        return dict(zip(documents, threads.map(one, documents), strict=True))


def ingest(client: openai.OpenAI, name: str, file_ids: Sequence[str]) -> tuple[VectorStore, float]:
    """A store with these files, and the seconds from the first batch to the last file that is searchable."""
    store = client.vector_stores.create(name=name)
    started = time.monotonic()
    for ids in _batches(file_ids):
        client.vector_stores.file_batches.create(store.id, file_ids=list(ids))
    while (store := client.vector_stores.retrieve(store.id)).file_counts.in_progress:
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - started
    counts = store.file_counts
    if counts.completed != counts.total:
        raise RuntimeError(f"{counts.total - counts.completed} of {counts.total} files were not completed")
    return store, seconds


class Searches:
    """Searches over one connection that stays open, without a client's own work: what the server takes."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def seconds(self, store_id: str, question: str, ranker: str, limit: int) -> float:
        """From sending the question to having the whole answer."""
        body = {"query": question, "max_num_results": limit, "ranking_options": {"ranker": ranker}}
        sent = json.dumps(body).encode()
        started = time.perf_counter()
        self._connection.request(
            "POST", f"/v1/vector_stores/{store_id}/search", sent, {"Content-Type": "application/json"}
        )
        answer = self._connection.getresponse()
        content = answer.read()
        seconds = time.perf_counter() - started
        if answer.status != 200:
            raise RuntimeError(f"a search was answered {answer.status}: {content.decode()}")
        return seconds


def search(client: openai.OpenAI, store_id: str, question: str, ranker: str, limit: int) -> tuple[list[str], float]:
    """File ids, best first and each once, and the seconds that the answer took."""
    started = time.perf_counter()
    page = client.vector_stores.search(
        store_id,
        query=question,
        max_num_results=limit,
        extra_body={"ranking_options": {"ranker": ranker}},
    )
    seconds = time.perf_counter() - started
    return list(dict.fromkeys(hit.file_id for hit in page.data)), seconds


def chunk_texts(client: openai.OpenAI, store_id: str, file_ids: Sequence[str]) -> dict[str, list[str]]:
    """The chunks of each file as the server has stored them."""

    def one(file_id: str) -> list[str]:
        return [part.text or "" for part in client.vector_stores.files.content(file_id, vector_store_id=store_id)]

    with ThreadPoolExecutor(8) as threads:
        return dict(zip(file_ids, threads.map(one, file_ids), strict=True))


def _batches(file_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(file_ids), BATCH_FILES):
        yield file_ids[start : start + BATCH_FILES]
