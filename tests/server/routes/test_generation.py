"""The stateless dialects through the official clients: names, adapters, streams, errors, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from server.engine.base import EngineRefused, EngineUnavailable
from server.engine.fake import FakeEngine
from server.services import Services

HELLO: Any = [{"role": "user", "content": "hello"}]


async def test_the_base_answers_under_its_name(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="demo", messages=HELLO)
    assert answer.model == "demo"
    assert answer.choices[0].message.content == "the rent is due base"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


async def test_an_adapter_answers_by_its_version_under_the_name_asked_for(
    client: openai.AsyncOpenAI, add: Callable[..., Any]
) -> None:
    version = add("legal")
    for name in ("legal", version.id, f"legal@{version.digest[:6]}"):
        answer = await client.chat.completions.create(model=name, messages=HELLO)
        assert answer.model == name
        assert answer.choices[0].message.content == f"the rent is due {version.engine_name}"


async def test_a_stream_gives_the_same_words(client: openai.AsyncOpenAI, add: Callable[..., Any]) -> None:
    version = add("legal")
    stream = await client.chat.completions.create(
        model="legal", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == f"the rent is due {version.engine_name}"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


async def test_completions_and_messages(
    client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, add: Callable[..., Any]
) -> None:
    version = add("legal")
    completion = await client.completions.create(model="legal", prompt="Dear sir,")
    assert completion.choices[0].text.endswith(version.engine_name)
    message = await claude.messages.create(model="legal", max_tokens=50, messages=[{"role": "user", "content": "hi"}])
    assert message.content[0].type == "text"
    assert message.content[0].text.endswith(version.engine_name)
    assert message.model == "legal"
    async with claude.messages.stream(
        model="legal", max_tokens=50, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        assert (await stream.get_final_text()).endswith(version.engine_name)


async def test_an_unknown_model_is_404_with_four_keys(client: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        await client.chat.completions.create(model="nobody", messages=HELLO)
    answer = await http.post("/v1/chat/completions", json={"model": "nobody", "messages": HELLO})
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["param"] == "model"


async def test_anthropic_s_errors_have_anthropic_s_shape(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await claude.messages.create(model="nobody", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("body", ["", "{", "[]", '"text"', "null", pytest.param("[" * 100_000, id="deep")])
async def test_a_body_that_is_no_object_is_a_400(http: httpx2.AsyncClient, body: str) -> None:
    answer = await http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


async def test_a_missing_model_says_where_to_find_one(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json={"messages": HELLO})
    assert answer.status_code == 400
    assert "/v1/models" in answer.json()["error"]["message"]


async def test_the_embedder_generates_nothing_and_says_what_it_does(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
        await client.chat.completions.create(model="embedder", messages=HELLO)


async def test_what_the_engine_refuses_keeps_its_status_and_param(
    client: openai.AsyncOpenAI, engine: FakeEngine
) -> None:
    engine.fails_with = EngineRefused("too long", param="input_tokens")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="demo", messages=HELLO)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"


async def test_an_error_in_the_middle_of_a_stream_is_told_in_the_stream(
    client: openai.AsyncOpenAI, engine: FakeEngine
) -> None:
    engine.fails_with, engine.after = EngineUnavailable("the engine died"), 3
    stream = await client.chat.completions.create(model="demo", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="the engine died"):
        async for _ in stream:
            pass


async def test_a_stream_s_slot_and_place_come_back(
    client: openai.AsyncOpenAI, services: Services, add: Callable[..., Any]
) -> None:
    add("legal")
    stream = await client.chat.completions.create(model="legal", messages=HELLO, stream=True)
    async for _ in stream:
        pass
    assert services.admission.running == 0
    assert not services.slots.occupancy().uses


async def test_a_timeout_is_a_504_and_ends_the_generation(
    http: httpx2.AsyncClient, services: Services, engine: FakeEngine
) -> None:
    object.__setattr__(services, "settings", services.settings.model_copy(update={"request_timeout_seconds": 0.05}))
    engine.gate.clear()
    answer = await http.post("/v1/chat/completions", json={"model": "demo", "messages": HELLO})
    assert answer.status_code == 504
    assert "MANYHATS_REQUEST_TIMEOUT_SECONDS" in answer.json()["error"]["message"]
    assert len(engine.aborted) == 1
    assert services.admission.running == 0


async def test_a_timeout_in_the_middle_of_a_stream_is_told_there(
    http: httpx2.AsyncClient, services: Services, engine: FakeEngine
) -> None:
    object.__setattr__(services, "settings", services.settings.model_copy(update={"request_timeout_seconds": 0.2}))
    request = {"model": "demo", "messages": HELLO, "stream": True}
    engine.gate = _OpensOnce()  # type: ignore[assignment]  # the first frame passes, the second never does
    answer = await http.post("/v1/chat/completions", json=request)
    assert answer.status_code == 200
    assert '"code":"timeout"' in answer.text
    assert len(engine.aborted) == 1
    assert services.admission.running == 0


async def test_a_client_that_goes_away_while_it_waits_leaves_nothing_behind(
    client: openai.AsyncOpenAI, services: Services, engine: FakeEngine, add: Callable[..., Any]
) -> None:
    add("legal")
    engine.gate.clear()
    asking = asyncio.create_task(client.chat.completions.create(model="legal", messages=HELLO))
    await engine.asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert services.admission.running == 0
    assert not services.slots.occupancy().uses
    assert engine.aborted


async def test_an_adapter_that_the_engine_does_not_take_is_a_clear_error(
    client: openai.AsyncOpenAI, engine: FakeEngine, services: Services, add: Callable[..., Any]
) -> None:
    version = add("legal")
    engine.broken_loads.add(version.engine_name)
    with pytest.raises(openai.InternalServerError, match="legal"):
        await client.chat.completions.create(model="legal", messages=HELLO)
    assert services.admission.running == 0
    answer = await client.chat.completions.create(model="demo", messages=HELLO)
    assert answer.choices[0].message.content is not None


async def test_more_adapters_than_slots_all_get_their_turn(
    client: openai.AsyncOpenAI, services: Services, add: Callable[..., Any]
) -> None:
    versions = [add(f"a{i}", seed=i) for i in range(30)]
    answers = await asyncio.gather(
        *(client.chat.completions.create(model=version.adapter, messages=HELLO) for version in versions * 3)
    )
    for answer, version in zip(answers, versions * 3, strict=True):
        assert answer.choices[0].message.content == f"the rent is due {version.engine_name}"
    assert len(services.slots.occupancy().held) <= services.settings.held_adapters


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
async def test_tokenize_and_back(http: httpx2.AsyncClient, path: str) -> None:
    tokens = (await http.post(path, json={"model": "demo", "prompt": "abc"})).json()
    assert tokens["count"] == 3
    back = await http.post(path.replace("tokenize", "detokenize"), json={"model": "demo", "tokens": tokens["tokens"]})
    assert back.json() == {"prompt": "abc"}


async def test_counting_is_a_request_under_the_key_s_limits(http: httpx2.AsyncClient, services: Services) -> None:
    _, secret = services.keys.create("app", requests_per_minute=1, tokens_per_minute=10)
    asked = [
        await http.post("/v1/tokenize", json={"model": "demo", "prompt": "abc"}, headers={"x-api-key": secret})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in asked] == [200, 429]
    assert asked[0].headers["x-ratelimit-remaining-tokens"] == "10"


class _OpensOnce(asyncio.Event):
    def __init__(self) -> None:
        super().__init__()
        self.passed = 0

    async def wait(self) -> Any:
        self.passed += 1
        if self.passed > 2:
            await asyncio.Event().wait()
        return True


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"model": "demo", "prompt": "\\ud800"}', "surrogate"),
        (b'{"model": "demo", "prompt": "\xed\xa0\x80"}', "not UTF-8, at byte"),
        (b'{"model": "demo", "prompt": "hi", "temperature": NaN}', "NaN"),
        (b'{"model": "demo", "prompt": "hi", "temperature": -Infinity}', "Infinity"),
        (b'{"model": "demo", "prompt": "hi", "temperature": 1e999}', "1e999"),
    ],
)
async def test_what_json_does_not_have_is_refused(http: httpx2.AsyncClient, body: bytes, said: str) -> None:
    answer = await http.post("/v1/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"
    assert said in answer.json()["error"]["message"]


async def test_a_whole_pair_of_surrogates_is_a_character(client: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    await client.post("/completions", content=b'{"model": "demo", "prompt": "\\ud83d\\ude00"}', cast_to=object)
    assert engine.calls[0].body["prompt"] == "😀"
