"""A DoRA that was converted, and a mix, are served as peft computes the originals."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "base"
N_TOKENS = 16
TOLERANCE = 1e-3
QUESTIONS = ("Tell me about the sea.", "Hello", "What is 3 + 4?")
N_ROWS = 20  # that the magnitudes change: so many ranks they take, beside those of B·A


@pytest.fixture
def dora(tmp_path: Path) -> Path:
    """Saved by peft; its difference of weights has a rank that the server takes."""
    torch.manual_seed(7)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, use_dora=True, target_modules=["q_proj", "up_proj"])
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), config)
    for module in made.modules():
        if not getattr(module, "lora_magnitude_vector", None):
            continue
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        b.data = torch.randn_like(b) * 0.02
        norms = (module.base_layer.weight + module.scaling["default"] * b @ a).norm(dim=1)
        norms[:N_ROWS] *= 1 + 0.3 * torch.randn(N_ROWS)
        module.lora_magnitude_vector["default"].weight.data = norms.detach()
    made.save_pretrained(tmp_path / "dora")
    return tmp_path / "dora"


def test_greedy_tokens_of_a_converted_dora_are_peft_s(dora: Path, http: httpx2.Client, client: openai.OpenAI) -> None:
    body = {"name": "dora", "convert": json.dumps({"error": 1e-5})}
    files = {"file": ("dora.zip", _zipped(dora))}
    refused = http.post("/v1/adapters", data={"name": "dora"}, files=files)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "dora")
    made = http.post("/v1/adapters", data=body, files=files)
    assert made.status_code == 201, made.text
    assert made.json()["version"]["rank"] <= N_ROWS + 4
    mix = {"adapters": {"dora": 0.5, made.json()["version"]["id"]: 0.5}}
    assert http.post("/v1/adapters", json={"name": "dora-mix", "mix": mix}).status_code == 201
    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), dora).eval()
    try:
        for name in ("dora", "dora-mix"):  # half of it twice is all of it
            _check(name, reference, client)
    finally:
        for name in ("dora", "dora-mix"):
            http.delete(f"/v1/adapters/{name}")


def _check(name: str, reference: PeftModel, client: openai.OpenAI) -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    for question in QUESTIONS:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        body: Any = {"ignore_eos": True, "return_token_ids": True}
        answer = client.completions.create(
            model=name, prompt=prompt, max_tokens=N_TOKENS, temperature=0, extra_body=body
        )
        _compare(reference, prompt, answer.choices[0].model_extra["token_ids"])  # type: ignore[index]  # vLLM's field


@torch.inference_mode()
def _compare(reference: PeftModel, prompt: list[int], said: list[int]) -> None:
    """Each token is the likeliest after those before it, or so near to it that the order of sums decides."""
    logits = reference(input_ids=torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    assert len(said) == N_TOKENS
    for place, (token, row) in enumerate(zip(said, logits, strict=True)):
        assert row.max() - row[token] < TOLERANCE, f"token {place}: {token}, peft says {int(row.argmax())}"
    with reference.disable_adapter():
        plain = reference(input_ids=torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    assert (plain - logits).abs().max() > 0.1  # the adapter does something


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            archive.write(folder / name, name)
    return buffer.getvalue()
