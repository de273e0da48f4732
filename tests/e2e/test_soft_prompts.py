"""Soft prompts answer as peft computes them: alone, beside LoRAs and the base, in all dialects."""

from __future__ import annotations

import asyncio
import io
import json
import random
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e.conftest import FLOAT32, House

BASE = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "base"
PROMPTS = {"one": 8, "other": 8, "long": 100}  # by name: virtual tokens
MODELS = (*PROMPTS, "embedding-lora", "demo")
N_TOKENS = 16
TOLERANCE = 2e-3  # of a log-probability: float32 sums in another order
BLOCK = 128  # tokens of one block of the prefix cache on a CPU

SOFT = {  # and none of the retrieval, which has no part in this
    "MANYHATS_PROMPT_TUNING": "true",
    "MANYHATS_INGESTION": "false",
    "MANYHATS_TRAINING": "false",
    "MANYHATS_EMBEDDER_BACKEND": "torch",
}

QUESTIONS = (
    "Tell me about the sea.",
    "Onde fica o consultório?",
    "What is 3 + 4?",
    "Which of these is a fruit? " + "A river runs to the sea; an apple grows on a tree. " * 12,  # more than one block
)

Tokens = list[int]
Said = tuple[Tokens, list[float]]  # the tokens of an answer and their log-probabilities


@pytest.fixture
def soft(house: House) -> str:
    """The address of the demo with soft prompts on."""
    return house.serve({**FLOAT32, **SOFT})


@pytest.fixture
def soft_http(soft: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=soft, timeout=60) as http:
        yield http


@pytest.fixture
def soft_client(soft: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none-needed", base_url=f"{soft}/v1", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """PEFT's own folders: soft prompts near the base's token vectors, and a LoRA on the embeddings."""
    root = tmp_path_factory.mktemp("peft")
    torch.manual_seed(11)
    for name, n_tokens in PROMPTS.items():
        config = PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=n_tokens, prompt_tuning_init="SAMPLE_VOCAB"
        )
        model = get_peft_model(_base(), config)
        with torch.no_grad():
            for weights in model.prompt_encoder.parameters():
                weights += 0.05 * torch.randn_like(weights)
        model.save_pretrained(root / name)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=16,
        init_lora_weights=False,
        target_modules=["embed_tokens", "q_proj", "up_proj"],
    )
    model = get_peft_model(_base(), lora)
    for key, weights in model.named_parameters():
        if "lora_" in key:
            weights.data *= 0.3
    model.save_pretrained(root / "embedding-lora", save_embedding_layers=False)
    return {name: root / name for name in (*PROMPTS, "embedding-lora")}


@pytest.fixture
def adapters(made: Mapping[str, Path], soft_http: httpx2.Client) -> None:
    """All of them registered; for the rest of this file's tests."""
    there = {adapter["name"] for adapter in soft_http.get("/v1/adapters").json()["data"]}
    for name, folder in made.items():
        if name not in there:
            files = {"file": ("made.zip", _zipped(folder))}
            answer = soft_http.post("/v1/adapters", data={"name": name}, files=files)
            assert answer.status_code == 201, answer.text


class Reference:
    """transformers and peft on the same files, in float32."""

    def __init__(self, made: Mapping[str, Path]) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(BASE)
        self._models = {name: PeftModel.from_pretrained(_base(), folder).eval() for name, folder in made.items()}
        self._models["demo"] = _base().eval()

    def prompt(self, question: str) -> Tokens:
        turns = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def logprobs(self, name: str, prompt: Tokens, answer: Tokens) -> torch.Tensor:
        """(tokens of the answer, vocabulary), each after all that comes before it."""
        logits = self._models[name](input_ids=torch.tensor([[*prompt, *answer]])).logits[0]
        return logits[-len(answer) - 1 : -1].log_softmax(-1)


@pytest.fixture(scope="module")
def reference(made: Mapping[str, Path]) -> Reference:
    return Reference(made)


pytestmark = pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # the embeddings' LoRA: wanted


@pytest.mark.usefixtures("adapters")
@pytest.mark.parametrize("name", MODELS)
def test_tokens_and_logprobs_are_peft_s(name: str, soft_client: openai.OpenAI, reference: Reference) -> None:
    for question in QUESTIONS:
        prompt = reference.prompt(question)
        said = _said(soft_client.completions.create(**_asked(name, prompt)))
        _compare(reference, name, prompt, said)


@pytest.mark.usefixtures("adapters")
async def test_a_mixed_batch_gives_the_same_answers(soft: str, reference: Reference) -> None:
    asked = [(name, question) for name in MODELS for question in QUESTIONS] * 2
    random.Random(7).shuffle(asked)
    async with openai.AsyncOpenAI(api_key="none", base_url=f"{soft}/v1", max_retries=0, timeout=120) as client:

        async def ask(name: str, question: str) -> Said:
            return _said(await client.completions.create(**_asked(name, reference.prompt(question))))

        answers = await asyncio.gather(*(ask(name, question) for name, question in asked))
    for (name, question), said in zip(asked, answers, strict=True):
        _compare(reference, name, reference.prompt(question), said)


@pytest.mark.usefixtures("adapters")
def test_the_prefix_cache_is_never_shared_between_soft_prompts(
    soft_client: openai.OpenAI, soft_http: httpx2.Client, reference: Reference
) -> None:
    prompt = reference.prompt("A text that nothing has been asked about before. " * 20)
    assert len(prompt) > BLOCK
    hits = []
    for name in ("one", "other", "demo", "one", "other"):
        before = _cache_hits(soft_http)
        _compare(reference, name, prompt, _said(soft_client.completions.create(**_asked(name, prompt))))
        hits.append(_cache_hits(soft_http) - before)
    assert hits[:3] == [0, 0, 0]
    assert min(hits[3:]) >= BLOCK  # its own, it does share


@pytest.mark.usefixtures("adapters")
def test_virtual_tokens_are_counted_as_the_prompt_s_in_every_dialect(
    soft: str, soft_client: openai.OpenAI, soft_http: httpx2.Client
) -> None:
    turns: Any = [{"role": "user", "content": "Tell me about the sea."}]
    claude = anthropic.Anthropic(api_key="none", base_url=soft, max_retries=0)

    def chat(model: str) -> int:
        return soft_client.chat.completions.create(model=model, messages=turns, max_tokens=4).usage.prompt_tokens  # type: ignore[union-attr]  # it is there

    def streamed(model: str) -> int:
        stream = soft_client.chat.completions.create(
            model=model, messages=turns, max_tokens=4, stream=True, stream_options={"include_usage": True}
        )
        return [chunk.usage for chunk in stream][-1].prompt_tokens  # type: ignore[union-attr]  # as above

    def completions(model: str) -> int:
        return soft_client.completions.create(model=model, prompt="Good morning", max_tokens=4).usage.prompt_tokens  # type: ignore[union-attr]  # as above

    def responses(model: str) -> int:
        return soft_client.responses.create(model=model, input="Good morning", max_output_tokens=4).usage.input_tokens  # type: ignore[union-attr]  # as above

    def messages(model: str) -> int:
        return claude.messages.create(model=model, messages=turns, max_tokens=4).usage.input_tokens

    for ask in (chat, streamed, completions, responses, messages):
        assert ask("long") == ask("demo") + PROMPTS["long"], ask.__name__
    claude.close()


@pytest.mark.usefixtures("adapters")
def test_several_answers_forms_and_tools_work_behind_a_soft_prompt(soft_client: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": "Name a large animal."}]
    several = soft_client.chat.completions.create(model="one", messages=turns, max_tokens=4, n=3, temperature=1)
    assert len(several.choices) == 3
    schema = {"type": "object", "properties": {"big": {"type": "boolean"}}, "required": ["big"]}
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "animal", "schema": schema | {"additionalProperties": False}},
    }
    formed = soft_client.chat.completions.create(model="one", messages=turns, max_tokens=64, response_format=form)
    assert set(json.loads(formed.choices[0].message.content or "")) == {"big"}
    tool: Any = {
        "type": "function",
        "function": {"name": "look", "parameters": schema | {"additionalProperties": False}},
    }
    choice: Any = {"type": "function", "function": {"name": "look"}}
    called = soft_client.chat.completions.create(
        model="one", messages=turns, max_tokens=64, tools=[tool], tool_choice=choice
    )
    assert called.choices[0].message.tool_calls[0].function.name == "look"  # type: ignore[index,union-attr]  # it is there


@pytest.mark.usefixtures("adapters")
def test_the_context_has_room_for_both_or_the_request_is_refused(soft_client: openai.OpenAI) -> None:
    words = [5] * (2048 - PROMPTS["long"] - 1)
    fits = soft_client.completions.create(model="long", prompt=words, max_tokens=50)
    assert fits.usage is not None
    assert (fits.usage.prompt_tokens, fits.usage.completion_tokens) == (2047, 1)
    capped = soft_client.completions.create(model="long", prompt=words, max_tokens=2048)
    assert capped.usage is not None
    assert capped.usage.completion_tokens == 1
    for length in (2048 - PROMPTS["long"], 2048 - PROMPTS["long"] + 1, 2040):  # the first leaves no room for an answer
        with pytest.raises(openai.BadRequestError):
            soft_client.completions.create(model="long", prompt=[5] * length, max_tokens=4)
    with pytest.raises(openai.BadRequestError, match=r"maximum context length is 1948 tokens"):
        soft_client.completions.create(model="long", prompt=[5] * 1949, max_tokens=4)


def test_embeddings_from_clients_are_refused_and_their_mark_is_only_text(soft_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="prompt_embeds"):
        soft_client.completions.create(model="demo", prompt="a", extra_body={"prompt_embeds": "AAAA"})
    part: Any = [{"type": "prompt_embeds", "data": "AAAA"}]
    with pytest.raises(openai.BadRequestError, match="prompt_embeds"):
        soft_client.chat.completions.create(model="demo", messages=[{"role": "user", "content": part}])
    # with vLLM's own flag this text is a token that the base has no row for, and the engine dies of it
    assert soft_client.completions.create(model="demo", prompt="a <prompt_embeds> b", max_tokens=2).choices
    with pytest.raises(openai.BadRequestError):
        soft_client.completions.create(model="demo", prompt=[4096], max_tokens=2)
    with pytest.raises(openai.BadRequestError, match="use_beam_search"):
        soft_client.completions.create(model="one", prompt="a", extra_body={"use_beam_search": True}, n=2)


@pytest.mark.usefixtures("adapters")
def test_a_soft_prompt_takes_no_slot_and_goes_as_any_version(
    soft_http: httpx2.Client, soft_client: openai.OpenAI, made: Mapping[str, Path]
) -> None:
    shown = soft_http.get("/v1/adapters/one").json()["versions"][0]
    assert (shown["rank"], shown["details"]["kind"], shown["details"]["n_virtual_tokens"]) == (0, "prompt_tuning", 8)
    files = {"file": ("made.zip", _zipped(made["one"]))}
    again = soft_http.post("/v1/adapters", data={"name": "brief"}, files=files)
    assert again.status_code == 201
    assert soft_client.completions.create(model="brief", prompt="a", max_tokens=1).choices
    assert soft_http.delete("/v1/adapters/brief").status_code == 200
    with pytest.raises(openai.NotFoundError):
        soft_client.completions.create(model="brief", prompt="a", max_tokens=1)


def _base() -> Any:
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)


def _asked(name: str, prompt: Tokens) -> dict[str, Any]:
    body = {"ignore_eos": True, "return_token_ids": True}
    return {
        "model": name, "prompt": prompt, "max_tokens": N_TOKENS, "temperature": 0, "logprobs": 1, "extra_body": body
    }  # fmt: skip  # one request


def _said(answer: Any) -> Said:
    choice = answer.choices[0]
    assert len(choice.model_extra["token_ids"]) == N_TOKENS
    return choice.model_extra["token_ids"], choice.logprobs.token_logprobs


def _compare(reference: Reference, name: str, prompt: Tokens, said: Said) -> None:
    """Each token is peft's likeliest, or as likely as it within float's reach, and has peft's log-probability."""
    tokens, logprobs = said
    expected = reference.logprobs(name, prompt, tokens)
    for place, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
        row = expected[place]
        assert abs(float(row[token]) - logprob) < TOLERANCE, (name, place, token, float(row[token]), logprob)
        assert float(row.max() - row[token]) < TOLERANCE, (name, place, token, int(row.argmax()))


def _cache_hits(http: httpx2.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total"))


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            archive.write(folder / name, name)
    return buffer.getvalue()
