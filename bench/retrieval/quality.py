"""Search quality through the server's own HTTP API, beside the bare parts on the same chunks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.retrieval import baselines, client
from bench.retrieval.corpora import Corpus
from bench.retrieval.measures import ndcg, recall
from bench.servers import Server

RANKERS = ("hybrid", "dense", "lexical")
LIMIT = 50  # chunks, so that ten documents are among them

Say = Callable[[str], None]


def measure(server: Server, corpus: Corpus, model: str, say: Say) -> None:
    """One table: every ranker and both baselines; then how long embedding took, here and bare."""
    api = client.connect(server.port)
    ids = client.upload(api, corpus.documents)
    names = {file_id: name for name, file_id in ids.items()}
    store, seconds = client.ingest(api, corpus.name, list(ids.values()))
    asked = [question for question, _ in corpus.questions]
    judged = [gains for _, gains in corpus.questions]
    rows = []
    for ranker in RANKERS:
        with ThreadPoolExecutor(4) as threads:
            answers = threads.map(partial(_ranking, api, store.id, ranker, names), asked)
            rows.append((f"server, {ranker}", list(answers)))
    chunks = client.chunk_texts(api, store.id, list(ids.values()))
    flat = baselines.Flat.of({names[file_id]: texts for file_id, texts in chunks.items()})
    bare, bare_seconds = baselines.bare_embedder(model, flat, asked, LIMIT)
    rows += [("bare embedder", bare), ("bare BM25 (bm25s)", baselines.bare_bm25(flat, asked, LIMIT))]

    say(f"\n### {corpus.name}: {len(corpus.documents)} documents, {len(flat.texts)} chunks, {len(asked)} questions\n")
    say("| ranking | nDCG@10 | recall@5 | recall@10 |\n|---|---|---|---|")
    for name, rankings in rows:
        say(
            f"| {name} | {ndcg(rankings, judged):.3f} | {recall(rankings, judged, 5):.3f} "
            f"| {recall(rankings, judged, 10):.3f} |"
        )
    n = len(flat.texts)
    say(
        f"\nFrom batch to searchable: {n / seconds:.1f} chunks/s ({seconds:.1f} s, reading, splitting and storing "
        f"included); one bare encode(chunks, batch_size=32) in float32: {n / bare_seconds:.1f} chunks/s "
        f"({bare_seconds:.1f} s); {bare_seconds / seconds:.2f} times as fast."
    )


def _ranking(api: client.openai.OpenAI, store_id: str, ranker: str, names: dict[str, str], question: str) -> list[str]:
    found, _ = client.search(api, store_id, question, ranker, LIMIT)
    return [names[file_id] for file_id in found]
