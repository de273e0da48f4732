"""What a model wants before a query and before a document: from its own files, else what its authors ask for.

Models that were trained with such words lose several points of recall without them, and many do not say so in their
files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from retrieval.embedding_files import ModelFiles

SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
REPRESENT = "Represent this sentence for searching relevant passages: "
REPRESENT_ZH = "为这个句子生成表示以用于检索相关文章："
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # the names that sentence-transformers' encode_document knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """Put before every text; empty for models that want none."""

    query: str = ""
    document: str = ""


# By the last part of a model's name in lower case; the first line that fits counts. Beside each line: the model card
# that says so, under https://huggingface.co/
FAMILIES: tuple[tuple[str, Prefixes], ...] = (
    # intfloat/multilingual-e5-large-instruct, "Usage"
    ("*e5*instruct*", Prefixes(query=SEARCH)),
    # intfloat/e5-base-v2 and intfloat/multilingual-e5-small, "FAQ 1: Do I need to add the prefix"
    ("e5-*", Prefixes(query="query: ", document="passage: ")),
    ("multilingual-e5-*", Prefixes(query="query: ", document="passage: ")),
    # BAAI/bge-small-en-v1.5, "Model List": query instruction for retrieval; passages want none
    ("bge-*-en*", Prefixes(query=REPRESENT)),
    # BAAI/bge-small-zh-v1.5, the same table
    ("bge-*-zh*", Prefixes(query=REPRESENT_ZH)),
    # BAAI/bge-m3, "FAQ": no instruction is needed
    ("bge-m3*", Prefixes()),
    # mixedbread-ai/mxbai-embed-large-v1, "Quickstart"
    ("mxbai-embed-large-*", Prefixes(query=REPRESENT)),
    # WhereIsAI/UAE-Large-V1, "Usage": Prompts.C for retrieval
    ("uae-large-*", Prefixes(query=REPRESENT)),
    # nomic-ai/nomic-embed-text-v1.5, "Task instruction prefixes"; the same in -v1 and -v2-moe
    ("nomic-embed-text-*", Prefixes(query="search_query: ", document="search_document: ")),
    # nomic-ai/modernbert-embed-base, "Usage"
    ("modernbert-embed-*", Prefixes(query="search_query: ", document="search_document: ")),
    # Snowflake/snowflake-arctic-embed-l-v2.0, "Usage"
    ("snowflake-arctic-embed-*-v2*", Prefixes(query="query: ")),
    # Snowflake/snowflake-arctic-embed-m-v1.5, "Usage"
    ("snowflake-arctic-embed-*", Prefixes(query=REPRESENT)),
    # Alibaba-NLP/gte-Qwen2-1.5B-instruct, "Usage"
    ("gte-qwen2-*-instruct", Prefixes(query=SEARCH)),
    # thenlper/gte-base, Alibaba-NLP/gte-multilingual-base and gte-modernbert-base, "Usage": the bare text
    ("gte-*", Prefixes()),
    # jinaai/jina-embeddings-v3, "Usage": the instructions of retrieval.query and retrieval.passage
    (
        "jina-embeddings-v3*",
        Prefixes(
            query="Represent the query for retrieving evidence documents: ",
            document="Represent the document for retrieval: ",
        ),
    ),
    # jinaai/jina-embeddings-v2-base-en, "Usage": the bare text
    ("jina-embeddings-v2-*", Prefixes()),
    # Qwen/Qwen3-Embedding-0.6B, "Sentence Transformers Usage"; there is no space after "Query:"
    ("qwen3-embedding-*", Prefixes(query=SEARCH.rstrip(" "))),
    # google/embeddinggemma-300m, "Prompt Instructions"
    ("embeddinggemma-*", Prefixes(query="task: search result | query: ", document="title: none | text: ")),
    # ibm-granite/granite-embedding-107m-multilingual, "Usage": the bare text
    ("granite-embedding-*", Prefixes()),
    # sentence-transformers/all-MiniLM-L6-v2, "Usage": the bare text
    ("all-minilm-*", Prefixes()),
)


def prefixes_of(name: str, files: ModelFiles) -> Prefixes:
    """The prefixes of a model by the name that it was asked for with; none for one that nobody knows.

    A model's own prompts win. Empty ones say nothing: sentence-transformers writes them into every model that it saves.
    """
    query = files.prompts.get("query", "")
    document = next((files.prompts[one] for one in DOCUMENT_PROMPTS if files.prompts.get(one)), "")
    if query or document:
        return Prefixes(query=query, document=document)
    return _of_family([name, files.trained_from])


def _of_family(names: Iterable[str]) -> Prefixes:
    for name in names:
        last = name.rstrip("/").rpartition("/")[2].lower()
        for pattern, prefixes in FAMILIES:
            if fnmatchcase(last, pattern):
                return prefixes
    return Prefixes()
