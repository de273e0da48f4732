"""What the server says of itself: models, health, readiness, metrics."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from tests.server.picker import Seen

DEMO_ADAPTERS = {"pirate", "shout", "portugues", "json", "sentimento", "banking", "simples"}
ASK: Any = [{"role": "user", "content": "Hello!"}]


def test_the_list_has_every_name(client: openai.OpenAI) -> None:
    models = {model.id: model.model_dump() for model in client.models.list()}
    assert {"demo", "embedder", "all-MiniLM-L6-v2", "demo-guide"} | DEMO_ADAPTERS <= models.keys()
    assert models["demo"]["parent"] is None
    assert models["demo"]["max_model_len"] == 2048
    for name in DEMO_ADAPTERS:
        assert models[name]["parent"] == "demo"
        assert models[name]["status"] in ("ready", "loaded")
        assert models[name]["name"]
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in models.values())


def test_one_name_also_by_version_and_with_versions(client: openai.OpenAI, http: httpx2.Client) -> None:
    client.chat.completions.create(model="pirate", messages=ASK, max_tokens=2)
    adapter = client.models.retrieve("pirate").model_dump()
    assert adapter["status"] == "loaded"
    version = client.models.retrieve(adapter["version"])
    assert version.id == adapter["version"]
    short = adapter["version"].partition("@")[0] + "@" + adapter["version"].partition("@")[2][:6]
    assert client.models.retrieve(short).id == version.id
    listed = [model["id"] for model in http.get("/v1/models?versions=true").json()["data"]]
    assert version.id in listed
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")


def test_an_assistant_answers_under_its_name(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo-guide", messages=ASK, max_tokens=8)
    assert answer.model == "demo-guide"
    assert answer.choices[0].message.content


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_assistants_by_the_client(client: openai.OpenAI) -> None:
    made = client.beta.assistants.create(model="shout", name="herald", instructions="Announce it.", temperature=0.1)
    try:
        assert made.object == "assistant"
        assert client.beta.assistants.retrieve(made.id).name == "herald"
        assert "herald" in [assistant.name for assistant in client.beta.assistants.list()]
        changed = client.beta.assistants.update(made.id, instructions="Announce it twice.")
        assert changed.instructions == "Announce it twice."
        for name in ("herald", made.id):
            answer = client.chat.completions.create(model=name, messages=ASK, max_tokens=8)
            assert answer.model == name
        plain = client.chat.completions.create(model="shout", messages=ASK, max_tokens=1)
        assert answer.usage is not None
        assert plain.usage is not None
        assert answer.usage.prompt_tokens > plain.usage.prompt_tokens  # its instructions went in
    finally:
        assert client.beta.assistants.delete(made.id).deleted


def test_health_and_readiness(http: httpx2.Client) -> None:
    assert http.get("/health").status_code == 200
    assert http.get("/ready").json()["status"] == "ready"


def test_an_id_comes_back_with_every_answer(http: httpx2.Client) -> None:
    answer = http.get("/v1/models", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert http.get("/v1/models").headers["X-Request-Id"]


def test_metrics_by_adapter(client: openai.OpenAI, http: httpx2.Client, metric: Callable[..., float]) -> None:
    def counts(adapter: str) -> list[float]:
        return [
            metric("manyhats_requests_total", adapter=adapter, status="200"),
            metric("manyhats_tokens_total", adapter=adapter, kind="completion"),
            metric("manyhats_time_to_first_token_seconds_count", adapter=adapter),
            metric("manyhats_time_per_output_token_seconds_count", adapter=adapter),
        ]

    before, base = counts("portugues"), counts("demo")
    stream = client.chat.completions.create(
        model="portugues", messages=ASK, max_tokens=5, stream=True, extra_body={"ignore_eos": True}
    )
    with stream:
        assert list(stream)
    grown = [after - earlier for after, earlier in zip(counts("portugues"), before, strict=True)]
    assert grown == [1, 5, 1, 1]
    assert counts("demo") == base
    assert metric("manyhats_adapter_resident", adapter="portugues") == 1
    assert metric("manyhats_adapter_load_seconds_count") >= 1
    assert metric("vllm:generation_tokens_total") > 0
    text = http.get("/metrics").text
    assert "vllm:lora_requests_info{" in text
    assert not re.search(r"@[0-9a-f]{64}", text)  # names as clients know them


def test_the_engine_s_adapter_series_has_public_names(client: openai.OpenAI, http: httpx2.Client) -> None:
    version = client.models.retrieve("pirate").model_dump()["version"]
    stream = client.chat.completions.create(
        model="pirate", messages=ASK, max_tokens=400, stream=True, extra_body={"ignore_eos": True}
    )
    with stream:
        next(iter(stream))
        series = []
        for _ in range(100):
            lines = http.get("/metrics").text.splitlines()
            series = [line for line in lines if line.startswith("vllm:lora_requests_info{") and version in line]
            if series:
                break
    assert f'running_lora_adapters="{version}"' in series[0]


def test_a_router_finds_the_adapter_by_the_name_that_clients_send(client: openai.OpenAI, http: httpx2.Client) -> None:
    client.chat.completions.create(model="pirate", messages=ASK, max_tokens=2)
    text = http.get("/metrics/routing").text
    page = Seen.of(text)
    version = client.models.retrieve("pirate").model_dump()["version"]
    for name in ("demo", "pirate", version):
        assert page.place(name) == "there"
    assert page.place("nobody") in ("room", "full")
    assert 0 <= page.cache <= 1
    # numbers, or a router counts an error at each reading
    assert re.search(r'(?m)^vllm:cache_config_info\{.*num_gpu_blocks="\d+"', text)
    assert "_created" not in text
    assert len(text) < 10_000
