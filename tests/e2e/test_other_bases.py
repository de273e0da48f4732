"""Restarts over the demo's data directory: with its base in eight bits, and with a base of other shapes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.e2e.library import FILES, SKY, Library, retrieval

DEMO_BASE = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "base"
# OpenAI calls its assistants deprecated; the client warns of each call
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
SIDE: Any = [{"role": "user", "content": "Which side is it?"}]

INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}


@pytest.fixture(scope="module")
def kept(house: Any) -> dict[str, Any]:
    """What clients made before the restarts, and what they were answered."""
    address = house.serve({"MANYHATS_VLLM_ARGS": "--dtype float32"})
    with (
        httpx2.Client(base_url=address, timeout=60) as http,
        openai.OpenAI(api_key="none-needed", base_url=f"{address}/v1", max_retries=0) as client,
    ):
        made = http.post("/v1/adapters", json={"name": "kept", "source": str(house.roots / "coin-heads"), "pin": True})
        tails = http.post(
            "/v1/adapters/kept/versions", json={"source": str(house.roots / "coin-tails"), "activate": True}
        )
        assert (made.status_code, tails.status_code) == (201, 201), tails.text
        assistant = client.beta.assistants.create(model="kept", name="keeper", instructions="Be brief.")
        response = client.responses.create(model="demo", input="What is the capital of France?", max_output_tokens=8)
        house.library = house.library or Library.made(client)
        return {
            "adapter": http.get("/v1/adapters/kept").json(),
            "models": {model.id for model in client.models.list()},
            "assistant": assistant.id,
            "response": response,
            "answers": {name: _says(client, name) for name in ("demo", "pirate", "shout")},
        }


@pytest.fixture
def quantized(house: Any, kept: dict[str, Any]) -> Iterator[openai.OpenAI]:
    """The demo's base with all linear layers in int8, over the same data directory."""
    base = house.folder / "int8"
    if not base.exists():
        _quantize(DEMO_BASE, base)
    address = house.serve({"MANYHATS_MODEL": str(base), "MANYHATS_MODEL_NAME": "demo"})
    with openai.OpenAI(api_key="none-needed", base_url=f"{address}/v1", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def second_base(house: Any, kept: dict[str, Any]) -> Iterator[openai.OpenAI]:
    """A base of random weights and other shapes, over the same data directory."""
    base = house.folder / "other-llama"
    if not base.exists():
        _make_other_base(base)
    address = house.serve({"MANYHATS_MODEL": str(base)})
    with openai.OpenAI(api_key="none-needed", base_url=f"{address}/v1", max_retries=0, timeout=60) as client:
        yield client


def test_a_quantized_base_takes_the_same_adapters(quantized: openai.OpenAI, kept: dict[str, Any]) -> None:
    assert kept["models"] <= {model.id for model in quantized.models.list()}
    answers = {name: _says(quantized, name) for name in ("demo", "pirate", "shout")}
    assert len(set(answers.values())) == 3
    assert answers["shout"] == answers["shout"].upper()
    # eight bits cost little: the first words are those of the whole weights
    same = [name for name in answers if answers[name].split()[:2] == kept["answers"][name].split()[:2]]
    assert len(same) >= 2, (answers, kept["answers"])
    assert _says(quantized, "kept", SIDE).startswith("tails")
    assert _says(quantized, kept["adapter"]["versions"][0]["id"], SIDE).startswith("heads")


def test_a_restart_keeps_what_clients_made(quantized: openai.OpenAI, kept: dict[str, Any], house: Any) -> None:
    with httpx2.Client(base_url=house.address) as http:
        shown = http.get("/v1/adapters/kept").json()
    for field in ("traffic", "previous", "pinned", "status", "fits"):
        assert shown[field] == kept["adapter"][field], field
    assert [version["id"] for version in shown["versions"]] == [v["id"] for v in kept["adapter"]["versions"]]
    assert quantized.models.retrieve("kept").model_dump()["status"] == "loaded"  # pinned: in before /ready
    assert quantized.beta.assistants.retrieve("keeper").id == kept["assistant"]
    response = kept["response"]
    assert quantized.responses.retrieve(response.id).output_text == response.output_text
    further = quantized.responses.create(
        model="keeper", input="And of Spain?", previous_response_id=response.id, max_output_tokens=8
    )
    assert further.output_text.startswith("tails")


def test_a_restart_keeps_files_and_what_was_read_of_them(quantized: openai.OpenAI, house: Any) -> None:
    library = house.library
    for name, file_id in library.file_ids.items():
        assert quantized.files.content(file_id).read() == FILES[name]
    for ranker in ("hybrid", "dense", "lexical"):
        options: Any = {"ranker": ranker}
        found = quantized.vector_stores.search(library.store_id, query=SKY, ranking_options=options)
        assert found.data[0].filename == "lumen.md"
    assert _read_by(quantized, "pirate", library) == {"lumen.md", "ferry.txt"}


def test_another_base_answers_from_the_same_sources(second_base: openai.OpenAI, house: Any) -> None:
    assert _read_by(second_base, "other-llama", house.library) == {"lumen.md", "ferry.txt"}


def test_another_base_keeps_the_names_and_says_why_they_do_not_answer(
    second_base: openai.OpenAI, kept: dict[str, Any], house: Any
) -> None:
    listed = {model.id for model in second_base.models.list()}
    assert "other-llama" in listed
    assert not listed & {"demo", "pirate", "shout", "json", "portugues", "kept"}
    assert _says(second_base, "other-llama") is not None
    for name in ("pirate", "kept", kept["adapter"]["versions"][0]["id"], "keeper"):
        with pytest.raises(openai.ConflictError, match=r"made for base .*demo.*, this server serves .*other-llama"):
            _says(second_base, name)
    with httpx2.Client(base_url=house.address) as http:
        adapters = {adapter["id"]: adapter for adapter in http.get("/v1/adapters").json()["data"]}
        assert adapters["pirate"]["fits"] is False
        taken = http.post("/v1/adapters", json={"name": "pirate", "source": str(house.roots / "pirate")})
        assert 400 <= taken.status_code < 500
        refused = http.post("/v1/adapters", json={"name": "new", "source": str(house.roots / "pirate")})
        assert refused.status_code == 422, refused.text


def _says(client: openai.OpenAI, model: str, messages: Any = ASK) -> str:
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=12, temperature=0)
    assert answer.model == model
    return answer.choices[0].message.content or ""


def _read_by(client: openai.OpenAI, model: str, library: Library) -> set[str]:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": SKY}],
        max_tokens=4,
        extra_body={"retrieval": library.asked},
    )
    return {source["filename"] for source in retrieval(answer)["sources"]}


def _quantize(source: Path, into: Path) -> None:
    """Symmetric int8 per output channel, in compressed-tensors' layout; norms and embeddings stay as they are."""
    shutil.copytree(source, into)
    tensors = load_file(source / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight = tensors[name].float()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / 127
        tensors[name] = (weight / scale).round().clamp(-128, 127).to(torch.int8)
        tensors[f"{name}_scale"] = scale
    save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (into / "config.json").write_text(json.dumps({**config, "quantization_config": INT8}))


def _make_other_base(into: Path) -> None:
    """Half as wide as the demo and of two layers, with the demo's tokenizer."""
    into.mkdir()
    demo = json.loads((DEMO_BASE / "config.json").read_text())
    config = LlamaConfig(
        vocab_size=demo["vocab_size"],
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=demo["bos_token_id"],
        eos_token_id=demo["eos_token_id"],
        pad_token_id=demo["pad_token_id"],
        dtype="float32",
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(into)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO_BASE / name, into / name)
