"""What MANYHATS_VECTOR_URL may say."""

from __future__ import annotations

import pytest

from retrieval.index.milvus_address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("milvus://vectors:19530", Address("http://vectors:19530", "", "HNSW")),
        ("milvus://vectors", Address("http://vectors:19530", "", "HNSW")),
        ("milvus://[::1]:19531/team", Address("http://[::1]:19531", "team", "HNSW")),
        ("https://vectors.example?index=autoindex", Address("https://vectors.example:443", "", "AUTOINDEX")),
        ("http://vectors:80/team?index=DISKANN", Address("http://vectors:80", "team", "DISKANN")),
        ("/data/vectors.db", Address("/data/vectors.db", "", "FLAT")),
        ("vectors.db?index=HNSW", Address("vectors.db", "", "HNSW")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("/data/vectors", "ends in .db"),
        ("milvus://", "is milvus://HOST:PORT"),
        ("redis://vectors", "not redis://"),
        ("milvus://root:secret@vectors", "MANYHATS_VECTOR_TOKEN"),
        ("milvus://vectors?index=IVF", "no index 'IVF'; known: HNSW, DISKANN, AUTOINDEX, FLAT"),
        ("milvus://vectors?indx=FLAT", "not indx"),
        ("milvus://vectors:many", "Port could not be cast"),
    ],
)
def test_what_is_no_address(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("?", r"\?")) as error:
        parse_address(url)
    assert "secret" not in str(error.value)
