"""Chat with the real engine: while a thousand files are read and embedded, and when sources repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import openai

from bench import servers
from bench.retrieval import client
from bench.retrieval.corpora import Corpus
from bench.retrieval.measures import percentile

FILES = 1_000
ANSWERS = 60  # of each quiet round
TOKENS = 32
SOURCES = 4
PASSAGE_CHARACTERS = 900  # of a document that is one passage: what is found must not depend on the question

Say = Callable[[str], None]


def measure(corpus: Corpus, folder: Path, say: Say) -> None:
    """Two tables; the server is the real one with the demo base."""
    server = servers.ours({}, folder=folder)
    try:
        api = client.connect(server.port)
        _while_ingesting(api, corpus, say)
        _repeated_sources(api, corpus, say)
    finally:
        server.stop()


def _while_ingesting(api: openai.OpenAI, corpus: Corpus, say: Say) -> None:
    names = list(corpus.documents)[:FILES]
    ids = list(client.upload(api, {name: corpus.documents[name] for name in names}).values())
    _chat(api, ANSWERS)  # the first answers of a server are slower
    before = _chat(api, ANSWERS)
    store = api.vector_stores.create(name="while chatting")
    started = time.monotonic()
    batch = api.vector_stores.file_batches.create(store.id, file_ids=ids)
    during: list[float] = []
    while api.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id).file_counts.in_progress:
        during += _chat(api, 5)
    took = time.monotonic() - started
    after = _chat(api, ANSWERS)
    quiet = median(before + after)
    say(f"\n### Chat while {FILES} files are ingested ({took:.0f} s), one client, {TOKENS} tokens\n")
    say("| answers | n | p50 ms | p99 ms | p50 beside quiet |\n|---|---|---|---|---|")
    for name, seconds in (("before", before), ("during", during), ("after", after)):
        say(
            f"| {name} | {len(seconds)} | {1000 * median(seconds):.1f} | {1000 * percentile(seconds, 0.99):.1f} "
            f"| {median(seconds) / quiet:.2f} |"
        )


def _chat(api: openai.OpenAI, n: int) -> list[float]:
    """Seconds of each whole answer."""
    seconds = []
    for number in range(n):
        started = time.perf_counter()
        api.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": f"Tell me about the sea, please, number {number}."}],
            max_tokens=TOKENS,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        seconds.append(time.perf_counter() - started)
    return seconds


def _repeated_sources(api: openai.OpenAI, corpus: Corpus, say: Say) -> None:
    """The same sources under another question: everything before the question is in the engine's prefix cache."""
    short = [name for name, text in corpus.documents.items() if len(text) <= PASSAGE_CHARACTERS]
    names = short[: 20 * SOURCES]
    ids = client.upload(api, {name: corpus.documents[name] for name in names})
    groups = [names[i : i + SOURCES] for i in range(0, len(names), SOURCES)]
    store = api.vector_stores.create(name="repeated")
    for number, group in enumerate(groups):
        batch = api.vector_stores.file_batches.create_and_poll(
            store.id, file_ids=[ids[name] for name in group], attributes={"group": number}, poll_interval_ms=100
        )
        if batch.file_counts.completed != len(group):
            raise RuntimeError(f"not every file was read: {batch.file_counts}")
    first, again = [], []
    for number in range(len(groups)):
        seconds = list(
            _first_tokens(api, store.id, number, ("What was found?", "Who was studied?", "How was it done?"))
        )
        first.append(seconds[0])
        again += seconds[1:]
    say(f"\n### First token with {SOURCES} sources\n\n| | p50 ms |\n|---|---|")
    say(f"| sources for the first time | {1000 * median(first):.1f} |")
    say(f"| the same sources under another question | {1000 * median(again):.1f} |")
    say(f"| times as fast | {median(first) / median(again):.2f} |")


def _first_tokens(api: openai.OpenAI, store_id: str, number: int, questions: Sequence[str]) -> Iterator[float]:
    for question in questions:
        only = {"type": "eq", "key": "group", "value": number}
        wanted = {"vector_store_ids": [store_id], "max_num_results": SOURCES, "filters": only}
        started = time.perf_counter()
        stream = api.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": question}],
            max_tokens=4,
            stream=True,
            extra_body={"retrieval": wanted},
        )
        for chunk in stream:
            if (found := getattr(chunk, "retrieval", None)) and "sources" in found and len(found["sources"]) != SOURCES:
                raise RuntimeError(f"not every source was given: {found}")
            if chunk.choices[0].delta.content:
                yield time.perf_counter() - started
                break
        stream.close()
