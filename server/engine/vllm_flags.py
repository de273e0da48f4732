"""From our settings to vLLM's command line: what the server owns, and what families of models want.

Knows names only and imports nothing of vLLM, so that a wrong flag is told before gigabytes are loaded.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from server.settings import Settings

# vLLM takes only these ranks; any rank up to the chosen one loads (VLLM.md rule 6)
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

SOFT_PROMPT_WORKER = "server.engine.vllm_soft_prompt_worker.SoftPromptWorker"

OWNED = {
    "--model": "MANYHATS_MODEL",
    "--served-model-name": "MANYHATS_MODEL_NAME",
    "--host": "MANYHATS_HOST",
    "--port": "MANYHATS_PORT",
    "--uds": "MANYHATS_HOST and MANYHATS_PORT",
    "--api-key": "`manyhats keys create`",
    "--enable-lora": "nothing: adapters are always on",
    "--lora-modules": "`manyhats adapters add`",
    "--max-loras": "MANYHATS_MAX_ADAPTERS",
    "--max-cpu-loras": "MANYHATS_MAX_CPU_ADAPTERS",
    "--max-lora-rank": "MANYHATS_MAX_RANK",
    "--tool-call-parser": "MANYHATS_TOOL_PARSER",
    "--enable-auto-tool-choice": "MANYHATS_TOOL_PARSER",
    "--reasoning-parser": "MANYHATS_REASONING_PARSER",
    "--allowed-origins": "MANYHATS_CORS_ORIGINS",
    "--api-server-count": "nothing: one API process per engine",
    "--enable-prompt-embeds": "MANYHATS_PROMPT_TUNING; embeddings from clients are always refused",
    "--trust-request-chat-template": "nothing: a client's template could forge other roles",
    "--middleware": "nothing: requests do not pass vLLM's own HTTP server",
    "--ssl-keyfile": "a proxy that speaks TLS",
    "--ssl-certfile": "a proxy that speaks TLS",
}

# (part of the model's `model_type` or name, tool parser, reasoning parser); first match wins
FAMILIES: tuple[tuple[str, str, str], ...] = (
    ("qwen3_coder", "qwen3_coder", ""),
    ("qwen3", "hermes", "qwen3"),
    ("qwen2", "hermes", ""),
    ("qwq", "hermes", "deepseek_r1"),
    ("deepseek_v3", "deepseek_v3", "deepseek_r1"),
    ("deepseek", "", "deepseek_r1"),
    ("gpt_oss", "openai", "openai_gptoss"),
    ("mistral", "mistral", ""),
    ("mixtral", "mistral", ""),
    ("llama4", "llama4_pythonic", ""),
    ("llama-3", "llama3_json", ""),
    ("granite", "granite", ""),
    ("internlm", "internlm", ""),
    ("phi4", "phi4_mini_json", ""),
    ("hermes", "hermes", ""),
)


class FlagRefused(ValueError):
    """A vLLM flag that the server sets itself; the message names the setting to use instead."""


def vllm_flags(settings: Settings, *, device: str, extra: Sequence[str] = ()) -> list[str]:
    """vLLM's command line for these settings; `device` is "cpu" or "cuda".

    Raises FlagRefused for a flag that the server owns and ValueError for a rank above vLLM's largest.
    """
    further = [*shlex.split(settings.vllm_args), *extra]
    refuse_owned(further)
    tool_parser, reasoning_parser = parsers(settings)
    flags = [
        "--model", settings.model,
        "--served-model-name", settings.base_name,
        "--enable-lora",
        "--max-loras", str(settings.max_adapters),
        "--max-cpu-loras", str(settings.held_adapters),
        "--max-lora-rank", str(slot_rank(settings.max_rank)),
    ]  # fmt: skip  # a flag and its value belong on one line
    if not _given(further, "--max-model-len"):
        flags += ["--max-model-len", "-1"]
    if device == "cpu" and not _given(further, "--enforce-eager", "--no-enforce-eager"):
        flags += ["--enforce-eager"]
    if settings.prompt_tuning:
        if _given(further, "--worker-cls"):
            raise FlagRefused("--worker-cls is set by the server itself while MANYHATS_PROMPT_TUNING is on")
        flags += ["--worker-cls", SOFT_PROMPT_WORKER]
    if settings.log_level != "debug":
        flags += ["--no-use-tqdm-on-load"]
    if tool_parser:
        flags += ["--enable-auto-tool-choice", "--tool-call-parser", tool_parser]
    if reasoning_parser:
        flags += ["--reasoning-parser", reasoning_parser]
    if settings.is_demo and not _given(further, "--structured-outputs-config"):
        # a weak model fills JSON with white space until max_tokens
        flags += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    return flags + further


def slot_rank(max_rank: int) -> int:
    """The smallest rank vLLM takes that holds `max_rank`."""
    for rank in RANKS:
        if max_rank <= rank:
            return rank
    raise ValueError(f"MANYHATS_MAX_RANK={max_rank} is above vLLM's largest, {RANKS[-1]}")


def refuse_owned(flags: Sequence[str]) -> None:
    """Refuse flags that would contradict the server's own; raises FlagRefused."""
    for flag in flags:
        name = flag.split("=", 1)[0].replace("_", "-")
        if name in OWNED:
            raise FlagRefused(f"{name} is set by the server itself; use {OWNED[name]} instead")


def parsers(settings: Settings) -> tuple[str, str]:
    """(tool parser, reasoning parser) by setting, else by the model's family; "" is none."""
    family = ("hermes", "") if settings.is_demo else _family(settings.model)
    return settings.tool_parser or family[0], settings.reasoning_parser or family[1]


def _family(model: str) -> tuple[str, str]:
    described = model.lower()
    config = Path(model) / "config.json"
    if config.is_file():
        described = f"{json.loads(config.read_text()).get('model_type', '')} {described}".lower()
    for part, tool_parser, reasoning_parser in FAMILIES:
        if part in described:
            return tool_parser, reasoning_parser
    return "", ""


def _given(flags: Sequence[str], *names: str) -> bool:
    return any(flag.split("=", 1)[0].replace("_", "-") in names for flag in flags)
