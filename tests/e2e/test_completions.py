"""Plain completions and token counts through OpenAI's client."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

PROMPT = "The capital of France is"


def _ids(http: httpx2.Client, text: str) -> list[int]:
    answer = http.post("/v1/tokenize", json={"model": "demo", "prompt": text})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["tokens"])


@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_text_lists_and_token_ids_are_prompts(client: openai.OpenAI, http: httpx2.Client, model: str) -> None:
    asked: Any = {"model": model, "max_tokens": 8, "temperature": 0}
    text = client.completions.create(prompt=PROMPT, **asked)
    assert text.model == model
    assert text.object == "text_completion"
    ids = _ids(http, PROMPT)
    assert client.completions.create(prompt=ids, **asked).choices[0].text == text.choices[0].text
    two = client.completions.create(prompt=[PROMPT, "Once upon a time"], **asked)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.choices[0].text == text.choices[0].text
    both = client.completions.create(prompt=[ids, ids], **asked)
    assert {choice.text for choice in both.choices} == {text.choices[0].text}


def test_a_stream_is_the_whole_text_in_pieces(client: openai.OpenAI) -> None:
    asked: Any = {"model": "shout", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**asked)
    with client.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage
    assert {chunk.model for chunk in chunks} == {"shout"}


def test_echo_repeats_the_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt=PROMPT, max_tokens=4, temperature=0, echo=True)
    bare = client.completions.create(model="demo", prompt=PROMPT, max_tokens=4, temperature=0)
    assert answer.choices[0].text == PROMPT + bare.choices[0].text


def test_log_probabilities_n_and_stop(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt=PROMPT, max_tokens=4, temperature=0, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.tokens or []) == len(logprobs.token_logprobs or []) >= 1
    many = client.completions.create(model="demo", prompt=PROMPT, max_tokens=6, n=3, temperature=1.5, seed=1)
    assert len(many.choices) == 3
    whole = client.completions.create(model="demo", prompt="One, two, three,", max_tokens=12, temperature=0).choices[0]
    letter = next(letter for letter in whole.text if letter.isalpha())
    stopped = client.completions.create(
        model="demo", prompt="One, two, three,", max_tokens=12, temperature=0, stop=letter
    ).choices[0]
    assert stopped.text == whole.text[: whole.text.index(letter)]


def test_structured_outputs(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="pirate", prompt=PROMPT, max_tokens=12, extra_body={"structured_outputs": {"choice": ["Paris", "Rome"]}}
    )
    assert answer.choices[0].text in ("Paris", "Rome")


def test_tokens_there_and_back(client: openai.OpenAI, http: httpx2.Client) -> None:
    counted: Any = client.post("/tokenize", body={"model": "pirate", "prompt": PROMPT}, cast_to=object)
    assert counted["count"] == len(counted["tokens"]) > 2
    assert counted["max_model_len"] == 2048
    back: Any = client.post("/detokenize", body={"model": "pirate", "tokens": counted["tokens"]}, cast_to=object)
    assert back["prompt"].endswith(PROMPT)
    messages = [{"role": "user", "content": PROMPT}]
    chat: Any = client.post("/tokenize", body={"model": "demo", "messages": messages}, cast_to=object)
    asked = client.chat.completions.create(model="demo", messages=messages, max_tokens=1)  # type: ignore[arg-type]
    assert asked.usage is not None
    assert chat["count"] == asked.usage.prompt_tokens
    bare = http.post("/tokenize", json={"prompt": PROMPT})  # vLLM's path, without a model: the base's tokens
    assert bare.json()["tokens"] == counted["tokens"]
