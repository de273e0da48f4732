from __future__ import annotations

import json
import math
import time

import pytest

from adapters.errors import AdapterRefused
from adapters.peft_config import MAX_CONFIG_BYTES, PeftConfig, decode, staged

PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def test_the_scale_is_pefts():
    from peft.utils.other import get_pattern_key

    config = PeftConfig.parse(
        {**PLAIN, "rank_pattern": {"layers.1.self_attn.q_proj": 2, "q_proj": 16}, "alpha_pattern": {r"v_\w*": 32}}
    )
    for module in (
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
    ):
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, module), 4)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, module), 8)
        assert config.rank(module) == rank
        assert config.scale(module) == alpha / rank
    assert PeftConfig.parse({**PLAIN, "use_rslora": True}).scale("x") == 8 / math.sqrt(4)


def test_staging_keeps_only_what_is_read_or_judged():
    noise = {"lora_dropout": 0.1, "inference_mode": True, "loftq_config": {}, "vllm_lora_scaling_factor": 9.0}
    kept = json.loads(staged(json.dumps({**PLAIN, **noise, "use_dora": True, "use_rslora": False}).encode()))
    assert kept == {**PLAIN, "use_dora": True}


def test_vllm_reads_a_staged_config_without_targets():
    assert json.loads(staged(json.dumps({**PLAIN, "target_modules": None}).encode()))["target_modules"] == []


def test_the_same_meaning_has_the_same_canonical_bytes():
    one = PeftConfig.parse({**PLAIN, "base_model_name_or_path": "here", "use_rslora": False})
    two = PeftConfig.parse({**PLAIN, "lora_alpha": 8.0, "target_modules": ["v_proj", "q_proj"], "alpha_pattern": None})
    assert one.canonical() == two.canonical()
    for change in ({"r": 5}, {"lora_alpha": 9}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 9}}):
        assert PeftConfig.parse({**PLAIN, **change}).canonical() != one.canonical()


@pytest.mark.parametrize("value", [10**400, 1e300, float("nan"), True, "8", [8]])
@pytest.mark.parametrize("name", ["r", "lora_alpha"])
def test_numbers_that_are_none(name, value):
    try:
        PeftConfig.parse({**PLAIN, name: value}).scale("q_proj")
    except (AdapterRefused, OverflowError) as error:
        assert isinstance(error, AdapterRefused)  # noqa: PT017  # some values are fine for one of the two


def test_a_config_that_is_far_too_long():
    with pytest.raises(AdapterRefused, match="not PEFT's"):
        staged(b" " * (MAX_CONFIG_BYTES + 1))


@pytest.mark.parametrize("key", ["(a|a)*b", "(.*)+", ".*.*.*x", "a**", "x" * 300, "(?:a)", r"\d{9}"])
def test_patterns_that_could_take_long_are_refused(key):
    with pytest.raises(AdapterRefused) as refused:
        PeftConfig.parse({**PLAIN, "rank_pattern": {key: 4}})
    assert refused.value.kind == "bad_pattern"


@pytest.mark.parametrize("key", ["q_proj", r"^model\.layers\.0\.mlp$", r".*layers\.(0|1)\.q_proj", r"layers\.\d+\.mlp"])
def test_patterns_that_people_write_pass_and_are_quick(key):
    config = PeftConfig.parse({**PLAIN, "rank_pattern": {key: 4}})
    before = time.process_time()
    config.rank("model.layers.0." * 13)
    assert time.process_time() - before < 0.5


def test_text_without_utf_8_is_refused():
    with pytest.raises(AdapterRefused, match="surrogates") as refused:
        decode(b'{"peft_type": "LORA", "base_model_name_or_path": "\\ud800"}')
    assert refused.value.kind == "bad_config"


def test_an_endless_base_name_is_cut():
    assert PeftConfig.parse({"r": 8, "lora_alpha": 16, "base_model_name_or_path": "x" * 100_000}).base == "x" * 1000
