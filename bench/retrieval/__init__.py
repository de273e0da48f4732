"""`make bench-retrieval`: search quality, ingestion and latency, beside a bare embedder and a bare BM25."""
