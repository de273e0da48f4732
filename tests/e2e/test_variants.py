"""LoRA's less usual forms that the preflight lets through are served as peft computes them."""

from __future__ import annotations

import io
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

VARIANTS: dict[str, dict[str, Any]] = {
    "patterns": {
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "rank_pattern": {"v_proj": 8},
        "alpha_pattern": {"v_proj": 32},
    },
    "embeddings": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "output-layer": {"target_modules": ["lm_head"]},
    "rank-stabilized": {"target_modules": ["q_proj", "o_proj"], "use_rslora": True},
}
QUESTIONS = ("Tell me about the sea.", "Hello", "What is 3 + 4?")


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # the case that is wanted here
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_are_peft_s(variant: str, http: httpx2.Client, client: openai.OpenAI, tmp_path: Path) -> None:
    torch.manual_seed(7)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, init_lora_weights=False, **VARIANTS[variant])
    made = get_peft_model(base, config)
    for name, weights in made.named_parameters():
        if "lora_" in name:
            weights.data *= 0.3
    made.save_pretrained(tmp_path / "made", save_embedding_layers=False)
    reference = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), tmp_path / "made"
    ).eval()
    name = f"variant-{variant}"
    upload = http.post("/v1/adapters", data={"name": name}, files={"file": ("made.zip", _zipped(tmp_path / "made"))})
    assert upload.status_code == 201, upload.text
    try:
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
    finally:
        http.delete(f"/v1/adapters/{name}")


@torch.inference_mode()
def _compare(reference: PeftModel, prompt: list[int], said: list[int]) -> None:
    """Each token is the likeliest after those before it, or so near to it that the order of sums decides."""
    logits = reference(input_ids=torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    assert len(said) == N_TOKENS
    for place, (token, row) in enumerate(zip(said, logits, strict=True)):
        assert row.max() - row[token] < TOLERANCE, f"token {place}: {token}, peft says {int(row.argmax())}"


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            archive.write(folder / name, name)
    return buffer.getvalue()
