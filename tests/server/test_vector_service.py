"""Milvus by the settings; nothing is connected to at start."""

from __future__ import annotations

import sys

import pytest

from server.settings import load_settings
from server.vector_service import LibraryMissing, far_vectors


def test_without_the_setting_vectors_stay_here() -> None:
    assert far_vectors(load_settings({})) is None


def test_with_it_they_are_in_milvus() -> None:
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    vectors = far_vectors(load_settings({"MANYHATS_VECTOR_URL": "milvus://nowhere.invalid:19530"}))
    assert vectors is not None
    vectors.close()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("retrieval.index.milvus_index", "retrieval.index.milvus_service"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(LibraryMissing, match=r"pip install 'manyhats\[milvus\]'"):
        far_vectors(load_settings({"MANYHATS_VECTOR_URL": "milvus://vectors"}))


def test_a_wrong_address_is_told_at_start() -> None:
    with pytest.raises(ValueError, match="neither milvus"):
        load_settings({"MANYHATS_VECTOR_URL": "vectors"})


def test_the_token_is_not_shown() -> None:
    settings = load_settings({"MANYHATS_VECTOR_URL": "milvus://vectors", "MANYHATS_VECTOR_TOKEN": "root:secret"})
    assert "secret" not in repr(settings)
