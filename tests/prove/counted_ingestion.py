"""The server's ingestion process as it is, with a record of how much it embeds, for a proof that kills it.

python -m tests.prove.counted_ingestion RECORD PARENT
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from retrieval.embedding import Embedder, Vectors
from server import ingestion_process
from server.process_tree import die_with_parent
from server.settings import Settings

load = ingestion_process.embedder_of


def main() -> int:
    """Run until killed."""
    record, parent = Path(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)

    def load_counted(settings: Settings) -> Embedder:
        embedder = load(settings)
        embed = embedder.embed_documents

        def counted(texts: Sequence[str]) -> Vectors:
            with record.open("a") as lines:  # before the work, so that the batch that a kill ends is counted too
                lines.write(f"{len(texts)}\n")
            return embed(texts)

        embedder.embed_documents = counted  # type: ignore[method-assign]  # the one thing that differs
        return embedder

    ingestion_process.embedder_of = load_counted
    ingestion_process._become_idle = lambda: None  # else a busy machine would let it be killed before it embeds
    return ingestion_process.main()


if __name__ == "__main__":
    sys.exit(main())
