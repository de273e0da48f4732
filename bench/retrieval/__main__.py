"""`make bench-retrieval DATA=DIR`: search quality, ingestion and latency; prints tables and asserts nothing.

    make bench-retrieval DATA=~/corpora                                  # about half an hour
    make bench-retrieval DATA=~/corpora ARGS="--only latency --chunks 10000"

DIR holds retrieval/scifact (BEIR's files, gzipped) and qa/faquad. All goes through the HTTP API of a server that this
starts, with an engine that answers from a script; the part beside chat has the real one. The machine should do nothing
else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from bench import report, servers
from bench.retrieval import beside_chat, corpora, latency, quality, recall
from retrieval.embedding import BUNDLED


def main() -> int:
    """Measure what was chosen, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--only", choices=["scifact", "faquad", "recall", "latency", "chat"])
    arguments.add_argument(
        "--chunks", type=lambda text: [int(part) for part in text.split(",")], default=[10_000, 100_000]
    )
    chosen = arguments.parse_args()
    say = partial(print, flush=True)
    try:
        scifact, faquad = corpora.scifact(chosen.data), corpora.faquad(chosen.data)
    except corpora.CorpusMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    say(report.machine())
    with tempfile.TemporaryDirectory(prefix="manyhats-bench-") as folder:
        if chosen.only in (None, "scifact", "faquad"):
            server = servers.ours({"MANYHATS_ENGINE": "fake"}, folder=Path(folder) / "quality")
            try:
                for corpus in (faquad, scifact):
                    if chosen.only in (None, corpus.name.lower()):
                        quality.measure(server, corpus, BUNDLED, say)
            finally:
                server.stop()
        for n_chunks in chosen.chunks if chosen.only in (None, "recall") else []:
            recall.measure(scifact.sentences(), corpora.scifact_claims(chosen.data), n_chunks, say)
        for n_chunks in chosen.chunks if chosen.only in (None, "latency") else []:
            asked = corpora.scifact_claims(chosen.data)
            latency.measure(scifact, asked, n_chunks, Path(folder) / f"{n_chunks}", say)
        if chosen.only in (None, "chat"):
            beside_chat.measure(scifact, Path(folder) / "chat", say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
