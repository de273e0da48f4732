"""vLLM's command line from our settings, without vLLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.engine.vllm_flags import OWNED, SOFT_PROMPT_WORKER, FlagRefused, parsers, slot_rank, vllm_flags
from server.settings import Settings


def _value(flags: list[str], name: str) -> str:
    return flags[flags.index(name) + 1]


def test_slots_memory_and_rank_follow_the_settings() -> None:
    flags = vllm_flags(Settings(max_adapters=3, max_rank=20), device="cpu")
    assert _value(flags, "--max-loras") == "3"
    assert _value(flags, "--max-cpu-loras") == "12"
    assert _value(flags, "--max-lora-rank") == "32"
    assert _value(flags, "--served-model-name") == "demo"


def test_the_context_is_fitted_unless_it_is_given() -> None:
    assert _value(vllm_flags(Settings(), device="cpu"), "--max-model-len") == "-1"
    given = vllm_flags(Settings(vllm_args="--max-model-len 512"), device="cpu")
    assert given.count("--max-model-len") == 1
    assert "--max-model-len=512" in vllm_flags(Settings(), device="cpu", extra=["--max-model-len=512"])


def test_eager_only_where_there_is_no_gpu() -> None:
    assert "--enforce-eager" in vllm_flags(Settings(), device="cpu")
    assert "--enforce-eager" not in vllm_flags(Settings(), device="cuda")


@pytest.mark.parametrize("name", sorted(OWNED))
@pytest.mark.parametrize("form", ["{} x", "{}=x"])
def test_a_flag_that_the_server_owns_names_the_setting(name: str, form: str) -> None:
    with pytest.raises(FlagRefused, match=name):
        vllm_flags(Settings(vllm_args=form.format(name)), device="cpu")
    with pytest.raises(FlagRefused):
        vllm_flags(Settings(), device="cpu", extra=[name.replace("-", "_").replace("__", "--", 1)])


def test_soft_prompts_have_a_worker_of_their_own() -> None:
    assert "--worker-cls" not in vllm_flags(Settings(), device="cpu")
    flags = vllm_flags(Settings(prompt_tuning=True), device="cpu")
    assert flags[flags.index("--worker-cls") + 1] == SOFT_PROMPT_WORKER
    assert "--enable-prompt-embeds" not in flags  # it would tell the renderer as well
    assert vllm_flags(Settings(vllm_args="--worker-cls a.B"), device="cpu")[-2:] == ["--worker-cls", "a.B"]
    with pytest.raises(FlagRefused, match="MANYHATS_PROMPT_TUNING"):
        vllm_flags(Settings(prompt_tuning=True, vllm_args="--worker-cls=a.B"), device="cpu")


@pytest.mark.parametrize(("rank", "slot"), [(1, 1), (2, 8), (8, 8), (64, 64), (65, 128), (512, 512)])
def test_ranks_are_vllm_s(rank: int, slot: int) -> None:
    assert slot_rank(rank) == slot


def test_a_rank_above_vllm_s_largest_is_told() -> None:
    with pytest.raises(ValueError, match="512"):
        slot_rank(513)


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("qwen3", ("hermes", "qwen3")),
        ("mistral", ("mistral", "")),
        ("gpt2", ("", "")),
        ("gpt_oss", ("openai", "openai_gptoss")),
    ],
)
def test_parsers_by_family(tmp_path: Path, model_type: str, expected: tuple[str, str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert parsers(Settings(model=str(tmp_path))) == expected


def test_parsers_by_hub_name_and_by_setting() -> None:
    assert parsers(Settings(model="Qwen/Qwen3-0.6B")) == ("hermes", "qwen3")
    assert parsers(Settings(model="Qwen/Qwen3-0.6B", tool_parser="pythonic")) == ("pythonic", "qwen3")
    assert parsers(Settings()) == ("hermes", "")
