from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.training.method import Lora
from adapters.training.parent import shape_of


def written(folder: Path, **config: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 6, **config}))
    return folder


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, {}),
        ({"target_modules": ["v_proj", "q_proj"]}, {"target_modules": ("q_proj", "v_proj")}),
        ({"target_modules": "all-linear", "lora_dropout": 0.1}, {"dropout": 0.1}),
        ({"use_rslora": True, "lora_dropout": None}, {"use_rslora": True}),
    ],
)
def test_the_shape_is_the_config_s(tmp_path: Path, config: dict[str, Any], told: dict[str, Any]) -> None:
    assert shape_of(written(tmp_path, **config)) == Lora(r=4, alpha=6, **told)


def test_what_is_there_may_be_more_than_a_job_may_ask_for(tmp_path: Path) -> None:
    shape = shape_of(written(tmp_path, r=600, lora_alpha=2e6, target_modules=r".*\.q_proj"))
    assert shape is not None
    told = shape.model_dump(mode="json")
    assert (told["r"], told["alpha"], told["target_modules"]) == (600, 2e6, [r".*\.q_proj"])


def test_a_soft_prompt_has_none(tmp_path: Path) -> None:
    assert shape_of(written(tmp_path, peft_type="PROMPT_TUNING")) is None
