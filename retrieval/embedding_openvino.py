"""OpenVINO on the CPU: a model converted once from torch, three to five times as fast, and loaded without torch.

The converted model lies in a folder of its own, beside vectors that torch made of a few texts. Each start compares with
these: so the fastest number format is taken in which this machine still gives the same vectors, and a damaged file is
noticed.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from retrieval.embedding_tokens import Tokens, arrays
from retrieval.embedding_torch import TorchBackend, one_model_at_a_time

logger = logging.getLogger(__name__)

LOWEST_COSINE = 0.999  # with torch's vectors in 32 bits
POOLINGS = ("mean", "cls", "lasttoken")
MULTIPLE = 8  # lengths are rounded up to it: OpenVINO prepares its kernels anew for each shape
SAMPLES = (
    "reset password",
    "How do I cancel an order that was already paid for?",
    "A criança não quis comer o pão; às 7h30 saiu à rua, 25 °C, sem casaco. Onde está o café?",
    "def area(radius: float) -> float:\n    return math.pi * radius ** 2  # in m²",
    "It was late in the year, and the harbour lay quiet under the first snow. " * 40,
)


class ConversionFailed(Exception):
    """OpenVINO cannot do what this model does."""


class OpenVinoBackend:
    """A converted model, loaded."""

    name = "openvino"

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        """Load what `convert` wrote. Raises ConversionFailed when it is incomplete, damaged or gives other vectors."""
        try:
            facts = json.loads((folder / "embedder.json").read_bytes())
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            expected = np.load(folder / "expected.npy")
            self.tokens = Tokens(tokenizer, window_tokens=int(facts["window_tokens"]))
            self.dimensions = int(facts["dimensions"])
            self._pad_token_id = int(facts["pad_token_id"])
        except Exception as error:  # tokenizers raises bare ones
            raise ConversionFailed(f"{folder} cannot be read: {error}") from error
        self.precision = self._load(folder / "model.xml", threads, expected)

    def run(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        given = arrays(encodings, self._pad_token_id, multiple=MULTIPLE)
        made = self._request.infer({name: given[name] for name in self._inputs})
        return np.asarray(made[0], dtype=np.float32)

    def _load(self, path: Path, threads: int | None, expected: NDArray[np.float32]) -> str:
        """Compile in the fastest format in which the vectors are the same; its name."""
        core = openvino().Core()
        fast = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # only where the CPU has instructions
        found: list[float] = []
        for precision in ("bf16", "f32") if fast else ("f32",):
            options: dict[str, Any] = {
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "ENABLE_CPU_PINNING": False,  # several processes would be bound to the same cores
            }
            if threads is not None:
                options["INFERENCE_NUM_THREADS"] = threads
            try:
                compiled = core.compile_model(str(path), "CPU", options)
                self._inputs = [port.any_name for port in compiled.inputs]
                self._request = compiled.create_infer_request()
                found.append(self._lowest_cosine(expected))
            except RuntimeError as error:
                raise ConversionFailed(f"{path} cannot be run: {str(error).strip()}") from error
            if found[-1] >= LOWEST_COSINE:
                return precision
        raise ConversionFailed(f"{path} gives other vectors than torch (cosine {max(found):.4f})")

    def _lowest_cosine(self, expected: NDArray[np.float32]) -> float:
        """Over a padded batch and a text alone: what holds for one shape must hold for others."""
        encodings = self.tokens.encode(SAMPLES)
        made = np.concatenate([self.run(SAMPLES, encodings), self.run(SAMPLES[:1], encodings[:1])])
        return float(cosines(made, np.concatenate([expected, expected[:1]])).min())


def convert(torch_backend: TorchBackend, folder: Path) -> None:
    """Write the model into an empty folder, for OpenVinoBackend. Raises ConversionFailed."""
    model = torch_backend.model
    _check_supported(model)
    encodings = torch_backend.tokens.encode(SAMPLES)
    expected = torch_backend.run(SAMPLES, encodings)
    pad_token_id = model.tokenizer.pad_token_id or 0  # what stands there is masked
    inputs = model.tokenizer.model_input_names
    example = {name: ids for name, ids in arrays(encodings[:2], pad_token_id).items() if name in inputs}
    began = time.monotonic()
    try:
        with one_model_at_a_time:
            graph = _graph(model, example)
        openvino().save_model(graph, str(folder / "model.xml"), compress_to_fp16=True)
    except Exception as error:  # torch, transformers and OpenVINO each have their own
        raise ConversionFailed(f"OpenVINO cannot convert this model: {error}") from error
    torch_backend.tokens.tokenizer.save(str(folder / "tokenizer.json"))
    np.save(folder / "expected.npy", expected)
    facts = {
        "dimensions": torch_backend.dimensions,
        "window_tokens": torch_backend.tokens.window_tokens,
        "pad_token_id": pad_token_id,
    }
    (folder / "embedder.json").write_text(json.dumps(facts, indent=1) + "\n")
    logger.info("the embedding model was converted for OpenVINO in %.1f s", time.monotonic() - began)


def openvino() -> Any:
    """The package, without its usage statistics: it would send them when it is imported.

    Raises ConversionFailed when it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not to be imported
    try:
        import openvino as package
    except ImportError as error:
        raise ConversionFailed(f"openvino is not installed: {error}") from error
    return package


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row with the row of the same place."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / np.maximum(lengths, 1e-12), dtype=np.float32)


def _check_supported(model: Any) -> None:
    kinds = [type(module).__name__ for module in model]
    unknown = set(kinds[1:]) - {"Pooling", "Dense", "Normalize"}
    if not kinds or kinds[0] != "Transformer" or unknown:
        raise ConversionFailed(f"a model of {', '.join(kinds)} is left to torch")
    for module in model:
        if type(module).__name__ == "Pooling" and (module.pooling_mode not in POOLINGS or not module.include_prompt):
            raise ConversionFailed(f"pooling {module.pooling_mode!r} is left to torch")


def _graph(model: Any, example: Mapping[str, NDArray[np.int64]]) -> Any:
    """The model as OpenVINO's graph, from token ids to what its own last module makes."""
    import torch

    class Whole(torch.nn.Module):
        """All modules in one call, with tensors as arguments, as tracing wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.modules_in_order = torch.nn.ModuleList(list(model))

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            features: dict[str, Any] = dict(zip(example, given, strict=True))
            for module in self.modules_in_order:
                features = module(features)
            vectors: torch.Tensor = features["sentence_embedding"]
            return vectors

    tensors = tuple(torch.from_numpy(array) for array in example.values())
    with torch.no_grad(), warnings.catch_warnings(), _transformers_quiet():
        warnings.simplefilter("ignore")  # tracing warns of each branch; the comparison with torch's vectors decides
        graph = openvino().convert_model(Whole().eval(), example_input=tensors)
    for port, name in zip(graph.inputs, example, strict=True):
        port.get_tensor().set_names({name})
    return graph


@contextmanager
def _transformers_quiet() -> Iterator[None]:
    """Without its remarks on parts of the model that tracing looks at and nobody uses."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
