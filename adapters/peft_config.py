"""PEFT's `adapter_config.json`: the fields that decide what the weights mean, and the features vLLM would get wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from adapters.errors import AdapterRefused

T = TypeVar("T")

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
MAX_ALPHA = 1e9
MAX_BASE_CHARS = 1000  # it is only shown; a megabyte of it in every list helps nobody

# Kept when staged: what vLLM reads, and what preflight judges. Everything else PEFT writes never reaches the engine.
KEPT_FIELDS = (
    *("alora_invocation_tokens", "alpha_pattern", "arrow_config", "base_model_name_or_path", "bias", "kasa_config"),
    *("init_lora_weights", "layer_replication", "lora_alpha", "lora_bias", "modules_to_save", "monteclora_config"),
    *("peft_type", "r", "rank_pattern", "target_modules", "target_parameters", "task_type", "trainable_token_indices"),
)

# Kinds that add something to the weights of linear layers, each tried against PEFT's own answers.
CONVERTIBLE = (
    *("ADALORA", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "GRALORA", "HIRA", "HRA", "IA3", "LOHA", "LOKR", "LORA"),
    *("MISS", "OFT", "PVERA", "RANDLORA", "ROAD", "SHIRA", "VBLORA", "VERA", "WAVEFT"),
)

# These inits change the base weights when PEFT loads them; vLLM's base stays as it is.
MODIFIES_BASE = ("pissa", "olora", "corda", "loftq")
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")

# Pattern keys are regular expressions from outside, matched here and in the engine: no repeated groups, few repeats.
_PATTERN_KEY = re.compile(r"(?:[\w.^$|()\[\]-]|\\[.dw]|(?<=[.\]dw])[*+](?![*+]))*")
_MAX_PATTERN_CHARS = 256
_MAX_REPEATS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftConfig:
    """What one LoRA config says, with PEFT's defaults filled in."""

    r: int
    alpha: float
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)  # in the file's order: the first match counts
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: tuple[str, ...] | str = ()  # names, or one regular expression
    base: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> PeftConfig:
        """Raises AdapterRefused: config_missing, bad_config, rank_zero, nan_alpha, bad_pattern."""
        return cls.parse(read_json(path))

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> PeftConfig:
        """The config of a decoded file; raises AdapterRefused as `read` does."""
        rank_pattern = _mapping(raw, "rank_pattern")
        alpha_pattern = _mapping(raw, "alpha_pattern")
        for key in (*rank_pattern, *alpha_pattern):
            _check_pattern(key)
        return cls(
            r=_rank(raw.get("r"), "r"),
            alpha=_alpha(raw.get("lora_alpha"), "lora_alpha"),
            use_rslora=raw.get("use_rslora") is True,
            rank_pattern={key: _rank(value, f"rank_pattern[{key!r}]") for key, value in rank_pattern.items()},
            alpha_pattern={key: _alpha(value, f"alpha_pattern[{key!r}]") for key, value in alpha_pattern.items()},
            target_modules=_targets(raw.get("target_modules")),
            base=base[:MAX_BASE_CHARS] if isinstance(base := raw.get("base_model_name_or_path"), str) else None,
            raw=raw,
        )

    def rank(self, module: str) -> int:
        """The rank that this module's tensors should have; `module` without `base_model.model.`."""
        return _first_match(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """What PEFT and vLLM multiply this module's B·A by."""
        alpha, rank = _first_match(self.alpha_pattern, module, self.alpha), self.rank(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def canonical(self) -> bytes:
        """JSON of the fields that, with the tensors, decide the answer: equal bytes for equal meaning.

        `target_modules` is not among them: the tensors say which modules have weights.
        """
        fields = {
            "r": self.r,
            "lora_alpha": float(self.alpha),
            "use_rslora": self.use_rslora,
            "rank_pattern": list(self.rank_pattern.items()),
            "alpha_pattern": [(key, float(value)) for key, value in self.alpha_pattern.items()],
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def check_supported(self) -> None:
        """Refuse what vLLM would reject with a 500, or load and answer wrongly with."""
        check_type(self.raw)
        _check_variants(self.raw)
        _check_extras(self.raw)
        _check_init(self.raw.get("init_lora_weights"))


def check_convertible(raw: Mapping[str, Any]) -> None:
    """Refuse what is no difference of linear layers' weights: prompts, biases, whole layers, new tokens."""
    peft_type = raw.get("peft_type")
    if not isinstance(peft_type, str) or peft_type.upper() not in CONVERTIBLE:
        raise AdapterRefused(
            "wrong_peft_type",
            f"peft_type is {peft_type!r}, which is not a difference of weights that a LoRA could hold; converted are "
            f"{', '.join(CONVERTIBLE)}, and LORA with use_dora",
        )
    check_task(raw)
    if peft_type.upper() in ("LORA", "ADALORA"):  # other kinds have options of their own that begin with use_
        _check_variants({**raw, "use_dora": False})
    _check_extras(raw)
    if peft_type.upper() == "LORA":
        _check_init(raw.get("init_lora_weights"))
    for name in ("rank_pattern", "alpha_pattern"):
        for key in _mapping(raw, name):
            _check_pattern(key)


def read_json(path: Path) -> dict[str, Any]:
    """The decoded file; raises AdapterRefused (config_missing, bad_config)."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise AdapterRefused(
            "config_missing", f"{CONFIG_FILE} is missing; add the file that PEFT's save_pretrained writes"
        ) from None
    return decode(data)


def decode(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; raises AdapterRefused (bad_config)."""
    if len(data) > MAX_CONFIG_BYTES:
        raise AdapterRefused("bad_config", f"{CONFIG_FILE} is larger than {MAX_CONFIG_BYTES} bytes; it is not PEFT's")
    try:
        raw = json.loads(data)
        json.dumps(raw, ensure_ascii=False).encode()  # half a surrogate pair could be kept, but never told back
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(
            "bad_config", f"{CONFIG_FILE} is not valid JSON ({error}); save the adapter anew"
        ) from error
    if not isinstance(raw, dict):
        raise AdapterRefused("bad_config", f"{CONFIG_FILE} holds a {type(raw).__name__}; it must be a JSON object")
    return raw


def staged(data: bytes) -> bytes:
    """The config as it is stored: only the fields that vLLM reads or preflight judges, in one order."""
    raw = decode(data)
    if not is_lora(raw):  # never shown to the engine as it is: a conversion reads it, or it is refused
        return json.dumps(raw, indent=2).encode() + b"\n"
    kept = {name: raw[name] for name in raw if name in KEPT_FIELDS or name.startswith("use_")}
    kept = {name: value for name, value in kept.items() if value not in (None, False, [], {})}
    kept["target_modules"] = _listed(_targets(raw.get("target_modules")))  # vLLM wants the field, whatever it says
    return json.dumps(kept, indent=2, sort_keys=False, default=str).encode() + b"\n"


def exactly(module: str) -> str:
    """The key of rank_pattern and alpha_pattern that means this module alone."""
    return f"^{module}$".replace(".", r"\.")


def is_lora(raw: Mapping[str, Any]) -> bool:
    """Whether it is of the one kind that vLLM serves, or would be without its variants."""
    return isinstance(peft_type := raw.get("peft_type"), str) and peft_type.upper() == "LORA"


def _listed(targets: tuple[str, ...] | str) -> list[str] | str:
    return targets if isinstance(targets, str) else list(targets)


def check_type(raw: Mapping[str, Any]) -> None:
    """Refuse all but LoRA for text, which is what the engine takes."""
    if not is_lora(raw):
        peft_type = raw.get("peft_type")
        convertible = isinstance(peft_type, str) and peft_type.upper() in CONVERTIBLE
        way = "register it with convert, or train one" if convertible else "train one"
        raise AdapterRefused(
            "wrong_peft_type",
            f"peft_type is {peft_type!r}; only 'LORA' adapters can be served: {way} with LoraConfig",
        )
    check_task(raw)


def check_task(raw: Mapping[str, Any]) -> None:
    """Refuse what was trained for something else than text; raises AdapterRefused (wrong_task_type)."""
    task = raw.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise AdapterRefused(
            "wrong_task_type",
            f"task_type is {task!r}, and the base answers with text; train the adapter with task_type='CAUSAL_LM'",
        )


def _check_variants(raw: Mapping[str, Any]) -> None:
    if raw.get("use_dora"):
        raise AdapterRefused(
            "dora",
            "use_dora is true and vLLM has no DoRA; register it with convert, which makes a plain LoRA of it and "
            "reports the error, or train without use_dora",
        )
    if raw.get("alora_invocation_tokens"):
        raise AdapterRefused(
            "alora", "alora_invocation_tokens is set and vLLM has no activated LoRA; train a plain LoRA without it"
        )
    if raw.get("layer_replication"):
        raise AdapterRefused(
            "layer_replication",
            "layer_replication is set, which grows the base's layers; the served base cannot: train without it",
        )
    variants = [name for name in raw if name.startswith("use_") and name not in ("use_rslora", "use_dora")]
    variants += ["arrow_config", "kasa_config", "monteclora_config"]
    if found := [name for name in variants if raw.get(name)]:
        raise AdapterRefused(
            "unsupported_variant",
            f"{', '.join(found)} is set, a LoRA variant that vLLM would ignore; convert it with peft.convert_to_lora, "
            "or train a plain LoRA",
        )


def _check_extras(raw: Mapping[str, Any]) -> None:
    if raw.get("lora_bias") or raw.get("bias") not in (None, "none"):
        which = "lora_bias is true" if raw.get("lora_bias") else f"bias is {raw['bias']!r}"
        raise AdapterRefused(
            "lora_bias", f"{which}, and vLLM adds no biases; train with bias='none' and lora_bias=False"
        )
    if saved := raw.get("modules_to_save"):
        raise AdapterRefused(
            "modules_to_save",
            f"modules_to_save is {saved!r}: whole layers beside the LoRA, which cannot be swapped per request; "
            "train without modules_to_save, or target those layers with LoRA",
        )
    if raw.get("target_parameters"):
        raise AdapterRefused(
            "target_parameters",
            f"target_parameters is {raw['target_parameters']!r}; LoRA on bare parameters, as of fused experts, is "
            "not served; train on linear layers with target_modules",
        )
    if raw.get("trainable_token_indices"):
        raise AdapterRefused(
            "trainable_tokens", "trainable_token_indices is set, and vLLM has no per-adapter tokens; train without it"
        )


def _check_init(init: object) -> None:
    if not isinstance(init, str) or init.lower() in PLAIN_INITS:
        return
    name = init.lower()
    if name.startswith(("pissa", "olora")):
        way = "register it with convert, or save it"
    elif name.startswith(MODIFIES_BASE):
        way = "save it"
    else:
        raise AdapterRefused(
            "modified_base",
            f"init_lora_weights is {init!r}, which is not known to leave the base as it is; "
            f"known: {', '.join(PLAIN_INITS)}, true, false",
        )
    raise AdapterRefused(
        "modified_base",
        f"init_lora_weights is {init!r}: such an adapter belongs to changed base weights, not to the served ones; "
        f"{way} with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...), which gives a plain LoRA",
    )


def _rank(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value % 1 != 0:
        raise AdapterRefused("bad_config", f"{name} is {value!r}; it must be a whole number, the adapter's rank")
    if value <= 0:
        raise AdapterRefused("rank_zero", f"{name} is {value!r}: no weights; train with a rank of 1 or more")
    return int(value)


def _alpha(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AdapterRefused("bad_config", f"{name} is {value!r}; it must be a number")
    if not 0 < value < MAX_ALPHA:  # false for NaN too
        raise AdapterRefused(
            "nan_alpha",
            f"{name} is {value!r}, which would scale the adapter to nothing; set the value it was trained with",
        )
    return value


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name) or {}
    if not isinstance(value, dict):
        raise AdapterRefused("bad_config", f"{name} is {value!r}; it must map module names to numbers")
    return value


def _targets(value: object) -> tuple[str, ...] | str:
    if value is None or isinstance(value, str):
        return value or ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise AdapterRefused("bad_config", f"target_modules is {value!r}; it must be a list of names or one pattern")
    return tuple(sorted(set(value)))  # PEFT keeps a set, so its order differs from save to save


def _check_pattern(key: str) -> None:
    repeats = key.count("*") + key.count("+")
    simple = len(key) <= _MAX_PATTERN_CHARS and repeats <= _MAX_REPEATS and _PATTERN_KEY.fullmatch(key)
    try:
        if simple and re.compile(key):
            return
    except re.error:
        pass
    raise AdapterRefused(
        "bad_pattern",
        f"{key[:80]!r} in rank_pattern or alpha_pattern is not a simple pattern; write out module names such as "
        "'layers.0.self_attn.q_proj'",
    )


def _first_match(pattern: Mapping[str, T], module: str, default: T) -> T:
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):  # PEFT's rule and vLLM's
            return value
    return default
