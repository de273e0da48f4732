"""OpenVINO gives torch's vectors for every architecture that it takes, is made once, and sends nothing anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieval.embedding import BUNDLED, Embedder, EmbedderMissing
from retrieval.embedding_cache import load_openvino
from retrieval.embedding_openvino import LOWEST_COSINE, ConversionFailed, OpenVinoBackend, cosines
from retrieval.embedding_torch import TorchBackend
from tests.retrieval.tiny_embedder import make_embedder

TEXTS = [
    "What is the capital of Portugal?",
    "",
    "one",
    "A Capitu, apesar daqueles olhos que o Diabo lhe deu... Você já reparou nos olhos dela? São assim de cigana.",
    "for i in range(10):\n\tprint(f'{i:>3}')  # 数字, café, 🎩🎩",
    "The harbour master wrote down each ship that came in, with its cargo and the weather. " * 30,
    "short again",
]
TINY_TEXTS = ["aa bb cc", "ab " * 100, "zz", "", "unknown words only", "qq ww rr tt yy uu ii oo pp"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedder")


@pytest.fixture(scope="module")
def cache(folder: Path) -> Path:
    return folder / "cache"


@pytest.fixture(scope="module")
def reference() -> Embedder:
    return Embedder(BUNDLED, backend="torch")


@pytest.fixture(scope="module")
def embedder(cache: Path) -> Embedder:
    return Embedder(BUNDLED, cache=cache, threads=2)


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Path:
    return make_embedder(folder / "tiny")


@pytest.fixture(scope="module")
def filled(folder: Path, tiny: Path) -> Path:
    """A cache that has the tiny model."""
    assert Embedder(str(tiny), cache=folder / "filled").backend == "openvino"
    return folder / "filled"


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    """A cache of one's own that has the tiny model."""
    return Path(shutil.copytree(filled, tmp_path / "copied"))


def test_openvino_gives_torch_s_vectors(embedder: Embedder, reference: Embedder) -> None:
    assert (embedder.backend, reference.backend) == ("openvino", "torch")
    assert cosines(embedder.embed(TEXTS), reference.embed(TEXTS)).min() >= LOWEST_COSINE
    assert embedder.fingerprint == reference.fingerprint
    assert embedder.count_tokens(TEXTS) == reference.count_tokens(TEXTS)
    assert (embedder.window_tokens, embedder.dimensions) == (reference.window_tokens, reference.dimensions)


def test_a_text_s_vector_does_not_depend_on_its_company(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert cosines(together, alone).min() >= LOWEST_COSINE
    assert cosines(embedder.embed(TEXTS[::-1]), together[::-1]).min() >= LOWEST_COSINE


@pytest.mark.parametrize(
    "how",
    [
        {"pooling": "mean"},
        {"pooling": "cls"},
        {"pooling": "lasttoken", "decoder": True},
        {"pooling": "mean", "decoder": True},
        {"dense": True},
    ],
    ids=str,
)
def test_poolings_and_architectures(how: dict[str, Any], tmp_path: Path) -> None:
    model = str(make_embedder(tmp_path / "model", **how))
    converted = Embedder(model, backend="openvino")
    made = converted.embed(TINY_TEXTS)
    assert made.shape == (len(TINY_TEXTS), 16 if "dense" in how else 32)
    assert cosines(made, Embedder(model, backend="torch").embed(TINY_TEXTS)).min() >= LOWEST_COSINE


def test_what_openvino_is_not_given_runs_in_torch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = str(make_embedder(tmp_path / "model", pooling="max"))
    embedder = Embedder(model, cache=tmp_path / "cache")
    assert embedder.backend == "torch"
    assert "pooling 'max' is left to torch" in caplog.text
    assert embedder.embed(TINY_TEXTS).shape == (len(TINY_TEXTS), 32)
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(EmbedderMissing, match="pooling 'max'"):
        Embedder(model, backend="openvino")


def test_without_openvino_torch_does_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert Embedder(str(tiny)).backend == "torch"
    assert "openvino is not installed" in caplog.text


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "embedder.json", "tokenizer.json", "expected.npy"])
@pytest.mark.parametrize("content", [None, b"", bytes(100)], ids=["missing", "empty", "zeros"])
def test_damage_is_noticed(copied: Path, name: str, content: bytes | None) -> None:
    (place,) = copied.iterdir()
    (place / name).unlink() if content is None else (place / name).write_bytes(content)
    with pytest.raises(ConversionFailed, match=str(place)):
        OpenVinoBackend(place)


def test_vectors_that_differ_are_noticed(copied: Path) -> None:
    (place,) = copied.iterdir()
    OpenVinoBackend(place)
    np.save(place / "expected.npy", np.load(place / "expected.npy")[::-1])
    with pytest.raises(ConversionFailed, match="other vectors than torch"):
        OpenVinoBackend(place)


def test_a_damaged_cache_is_made_anew(tiny: Path, filled: Path, copied: Path) -> None:
    (place,) = copied.iterdir()
    (place / "model.bin").write_bytes(b"")
    again = Embedder(str(tiny), cache=copied)
    assert again.backend == "openvino"
    assert cosines(again.embed(TINY_TEXTS), Embedder(str(tiny), cache=filled).embed(TINY_TEXTS)).min() >= LOWEST_COSINE
    assert [entry.name for entry in copied.iterdir()] == [place.name]
    assert (place / "model.bin").stat().st_size


def test_two_at_once_make_one(tiny: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(load_openvino, "a" * 64, tmp_path, lambda: TorchBackend(tiny), 1) for _ in range(2)]
        assert [load.result().dimensions for load in loads] == [32, 32]
    assert [entry.name.partition("-")[0] for entry in tmp_path.iterdir()] == ["a" * 16]


def test_loading_at_once_leaves_transformers_as_it_was(tiny: Path) -> None:
    from transformers import PreTrainedModel

    before = PreTrainedModel.tie_weights, PreTrainedModel.init_weights, torch.get_default_dtype()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(TorchBackend, [tiny] * 40))
    assert (PreTrainedModel.tie_weights, PreTrainedModel.init_weights, torch.get_default_dtype()) == before


def test_what_earlier_packages_made_is_removed(tiny: Path, tmp_path: Path) -> None:
    old, other = tmp_path / f"{'a' * 16}-000000000000", tmp_path / f"{'b' * 16}-000000000000"
    old.mkdir()
    other.mkdir()  # of another model, which may come back
    load_openvino("a" * 64, tmp_path, lambda: TorchBackend(tiny), 1)
    assert not old.exists()
    assert other.exists()


def test_a_failed_conversion_leaves_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.embedding_openvino._graph", lambda *given: 1 / 0)
    assert Embedder(str(tiny), cache=tmp_path).backend == "torch"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_threads_than_asked(filled: Path, threads: int) -> None:
    (place,) = filled.iterdir()
    backend = OpenVinoBackend(place, threads=threads)
    compiled = backend._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.fixture
def spy(tmp_path: Path) -> Iterator[Path]:
    """A package in the place of OpenVINO's usage statistics that says when it is imported."""
    package = tmp_path / "spy" / "openvino_telemetry"
    (package / "backend").mkdir(parents=True)
    report = "import sys\nsys.exit('usage statistics were imported')\n"
    (package / "__init__.py").write_text(report)
    (package / "backend" / "__init__.py").write_text(report)
    yield package.parent
    shutil.rmtree(package.parent)


def test_a_second_start_imports_no_torch_and_no_usage_statistics(embedder: Embedder, cache: Path, spy: Path) -> None:
    program = (
        "import sys, pathlib\n"
        f"sys.path.insert(0, {str(spy)!r})\n"
        "from retrieval.embedding import Embedder\n"
        f"embedder = Embedder(cache=pathlib.Path({str(cache)!r}))\n"
        "print(embedder.backend, embedder.embed_queries(['hello']).shape, 'torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stdout.split("\n")[0] == "openvino (1, 384) False", result.stderr


def test_the_spy_would_notice(spy: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(spy)!r}); import openvino"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "usage statistics were imported" in result.stderr
