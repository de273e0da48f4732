"""What Open WebUI 0.12 sends, field for field, and what it reads of the answers; the program itself is not needed.

tests/prove/test_open_webui.py drives the program in a browser.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import pytest

HEADERS = {"Authorization": "Bearer none-needed", "Accept": "*/*", "Accept-Encoding": "gzip, deflate, br"}
HOURS = "When does Brisa Bikes open?"
CONTRACTS = "Quem assina os contratos?"
NUMBERS = re.compile(r"\[(\d+(?:,\s*\d+)*)\]")  # what it takes for citations

# its title, tags and follow-up questions, asked of the chat's own model after an answer
TASKS: dict[str, dict[str, Any]] = {
    "title": {
        "prompt": '### Task:\nA title.\n### Output:\nJSON format: { "title": "words" }',
        "max_tokens": 1000,
    },
    "tags": {"prompt": '### Task:\nWrite 1-3 tags.\n\n### Output:\nJSON format: { "tags": ["tag1", "tag2"] }'},
    "follow-ups": {"prompt": '### Task:\nWrite 3 messages.\n### Output:\nJSON format: { "follow_ups": ["one"] }'},
}

# kinds of schema that its own tools have
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_time",
            "description": "Get the time.",
            "parameters": {"properties": {}, "type": "object"},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "make_tasks",
            "description": "Make a list of tasks.\nOne line for each.",
            "parameters": {
                "properties": {
                    "tasks": {
                        "description": "The tasks.",
                        "items": {
                            "additionalProperties": False,
                            "properties": {
                                "content": {"type": "string"},
                                "status": {"default": "pending", "enum": ["pending", "completed"], "type": "string"},
                                "encoding": {"const": "base64", "type": "string"},
                            },
                            "required": ["content"],
                            "type": "object",
                        },
                        "type": "array",
                    },
                    "query": {"default": "", "type": "string"},
                },
                "required": ["tasks"],
                "type": "object",
            },
        },
    },
]


def asked(http: httpx2.Client, body: dict[str, Any]) -> httpx2.Response:
    answer = http.post("/v1/chat/completions", json=body, headers=HEADERS)
    assert answer.status_code == 200, answer.text
    return answer


def streamed(http: httpx2.Client, question: str = HOURS, **more: Any) -> list[dict[str, Any]]:
    """The chunks of the answer to a first message."""
    answer = asked(
        http, {"stream": True, "model": "demo-guide", "messages": [{"role": "user", "content": question}], **more}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.splitlines() if line]
    assert all(line.startswith("data:") for line in lines), "it takes other lines for errors"
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line[5:]) for line in lines]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"][:1])


def shown(chunks: list[dict[str, Any]]) -> list[str]:
    """The names under an answer, as it counts them: events as they come, annotations after them, an address once."""
    names: dict[str, str] = {}
    for chunk in chunks:
        if event := chunk.get("event"):
            assert event["type"] == "source"
            assert len(event["data"]["document"]) == len(event["data"]["metadata"])
            for one in event["data"]["metadata"]:
                names.setdefault(one["source"], one["name"])
        for choice in chunk["choices"][:1]:
            for annotation in choice["delta"].get("annotations") or []:
                assert annotation["type"] == "url_citation"
                names.setdefault(annotation["url_citation"]["url"], annotation["url_citation"]["title"])
    return list(names.values())


def test_models_are_listed_with_names(http: httpx2.Client) -> None:
    answer = http.get("/v1/models", headers=HEADERS).json()
    assert {model["id"] for model in answer["data"]} >= {"demo", "demo-guide", "pirate"}
    assert all(model["name"] for model in answer["data"])


@pytest.mark.parametrize("question", [HOURS, CONTRACTS])
def test_a_marker_stands_for_the_source_that_it_would_show(http: httpx2.Client, question: str) -> None:
    chunks = streamed(http, question)
    sources = {one["number"]: one["filename"] for one in chunks[0]["retrieval"]["sources"]}
    names = shown(chunks)
    assert names == list(sources.values()), "all sources, in the order of their numbers, and no other"
    cited = [int(number) for group in NUMBERS.findall(text_of(chunks)) for number in group.split(",")]
    assert cited
    assert [names[number - 1] for number in cited] == [sources[number] for number in cited]


def test_what_is_shown_of_a_source_is_what_the_model_read(http: httpx2.Client) -> None:
    first, *_ = streamed(http)
    assert first["event"]["data"]["document"] == [one["text"] for one in first["retrieval"]["sources"]]


def test_an_answer_with_its_own_tools(http: httpx2.Client) -> None:
    chunks = streamed(http, tools=TOOLS)
    assert shown(chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "tool_calls", "length")


def test_usage_and_parameters_of_its_settings(http: httpx2.Client) -> None:
    """Those of a chat's controls, and of a model whose capabilities include usage."""
    chunks = streamed(
        http,
        stream_options={"include_usage": True},
        temperature=0.8,
        top_p=0.9,
        top_k=40,
        min_p=0.0,
        repeat_penalty=1.1,
        frequency_penalty=0.1,
        presence_penalty=0.1,
        seed=7,
        stop=["###"],
        logit_bias={"5": 1},
        max_tokens=20,
    )
    *_, last = chunks
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0


def test_fields_of_its_own_that_reach_a_server(http: httpx2.Client) -> None:
    """Filters, pipelines and its own API's clients pass these on; they mean nothing here."""
    chunks = streamed(
        http,
        max_completion_tokens=20,
        chat_id="local:1",
        id="b2e3",
        session_id="s1",
        background_tasks={"title_generation": True, "tags_generation": True},
        features={"image_generation": False, "code_interpreter": False, "web_search": False, "memory": False},
        variables={"{{USER_NAME}}": "User", "{{CURRENT_DATE}}": "2026-11-21"},
        metadata={"user_id": "u1", "chat_id": "c1", "task": None, "variables": {}},
        params={},
        tool_servers=[],
        files=[],
    )
    assert text_of(chunks)


def test_a_further_turn(http: httpx2.Client) -> None:
    messages = [
        {"role": "user", "content": HOURS},
        {"role": "assistant", "content": "At nine o'clock. [1]"},
        {"role": "user", "content": [{"type": "text", "text": "And how much is the Vento?"}]},
    ]
    chunks = streamed(http, messages=messages)
    assert text_of(chunks)
    assert shown(chunks)


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("model", ["demo-guide", "demo", "pirate"])
def test_its_own_tasks(http: httpx2.Client, model: str, task: str) -> None:
    history = f"### Chat History:\n<chat_history>\nUSER: {HOURS}\nASSISTANT: At nine o'clock. [1]\n</chat_history>"
    told = dict(TASKS[task])
    content = f"{told.pop('prompt')}\n{history}"
    answer = asked(
        http, {"model": model, "messages": [{"role": "user", "content": content}], "stream": False, **told}
    ).json()
    assert isinstance(answer["choices"][0]["message"]["content"], str)


def test_embeddings_for_its_own_knowledge(http: httpx2.Client) -> None:
    answer = http.post("/v1/embeddings", json={"input": ["one", "two"], "model": "embedder"}, headers=HEADERS).json()
    assert [len(one["embedding"]) for one in answer["data"]] == [384, 384]


def test_an_error_says_what_it_is(http: httpx2.Client) -> None:
    """Before a stream begins it comes with its status, as JSON with a message: that is what the chat shows."""
    body = {"stream": True, "model": "embedder", "messages": [{"role": "user", "content": HOURS}]}
    answer = http.post("/v1/chat/completions", json=body, headers=HEADERS)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]
