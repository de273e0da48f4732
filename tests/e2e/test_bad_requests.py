"""Bad requests of every dialect: a 4xx in the dialect's shape that names what is wrong, and an engine that lives on."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

GONE = object()  # leave the field out
TURN = {"role": "user", "content": "hello"}
CHAT: dict[str, Any] = {"model": "demo", "messages": [TURN], "max_tokens": 4}
COMPLETION: dict[str, Any] = {"model": "demo", "prompt": "hello", "max_tokens": 4}
MESSAGE: dict[str, Any] = {"model": "demo", "messages": [TURN], "max_tokens": 4}
RESPONSE: dict[str, Any] = {"model": "demo", "input": "hello", "max_output_tokens": 4, "store": False}
EMBEDDING: dict[str, Any] = {"model": "embedder", "input": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
BAD_SCHEMA = {"name": "x", "schema": {"type": "cat"}}
LONG = "word " * 5000

# (what is changed, status): 400 unless said
SAMPLING: list[dict[str, Any]] = [
    {"temperature": -1},
    {"temperature": "hot"},
    {"top_p": 1.5},
    {"top_p": -0.1},
]
NAMES: list[tuple[dict[str, Any], int]] = [
    ({"model": GONE}, 400),
    ({"model": ""}, 400),
    ({"model": None}, 400),
    ({"model": 7}, 400),
    ({"model": "nobody"}, 404),
    ({"model": "../../etc/passwd"}, 404),
    ({"model": "pirate@000000"}, 404),
    ({"model": "pirate@xyz"}, 400),
    ({"model": "pirate@"}, 400),
    ({"model": "a" * 5000}, 404),
    ({"model": "demo\u0000"}, 404),
    ({"stream": "perhaps"}, 400),
]

TABLE: dict[str, tuple[dict[str, Any], list[tuple[dict[str, Any], int]]]] = {
    "/v1/chat/completions": (
        CHAT,
        [
            *NAMES,
            *((change, 400) for change in SAMPLING),
            ({"model": "embedder"}, 400),
            ({"messages": GONE}, 400),
            ({"messages": []}, 400),
            ({"messages": "hello"}, 400),
            ({"messages": ["hello"]}, 400),
            ({"messages": [{"content": "x"}]}, 400),
            ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400),
            ({"messages": [{"role": "user", "content": [{"type": "cat"}]}]}, 400),
            ({"messages": [{"role": "user", "content": 7}]}, 400),
            ({"messages": [{"role": "user", "content": LONG}]}, 400),
            ({"max_tokens": 0}, 400),
            ({"max_tokens": -5}, 400),
            ({"max_tokens": "many"}, 400),
            ({"max_tokens": 100_000}, 400),
            ({"n": 0}, 400),
            ({"n": -1}, 400),
            ({"n": 100_000}, 400),
            ({"top_k": -7}, 400),
            ({"min_p": 2}, 400),
            ({"frequency_penalty": 5}, 400),
            ({"presence_penalty": "x"}, 400),
            ({"repetition_penalty": 0}, 400),
            ({"logprobs": True, "top_logprobs": 1000}, 400),
            ({"top_logprobs": 3}, 400),
            ({"seed": "x"}, 400),
            ({"stop": 7}, 400),
            ({"stop": [""]}, 400),
            ({"logit_bias": {"99999999": 1}}, 400),
            ({"logit_bias": "x"}, 400),
            ({"stream_options": {"include_usage": True}}, 400),
            ({"tools": "x"}, 400),
            ({"tools": [{"type": "function"}]}, 400),
            ({"tool_choice": "required"}, 400),
            ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, 400),
            ({"tools": [TOOL], "tool_choice": "perhaps"}, 400),
            ({"response_format": {"type": "poem"}}, 400),
            ({"response_format": {"type": "json_schema"}}, 400),
            (
                {"response_format": {"type": "json_schema", "json_schema": BAD_SCHEMA}},
                400,
            ),
            ({"structured_outputs": {"regex": "("}}, 400),
            ({"structured_outputs": {"grammar": "nonsense ::="}}, 400),
            ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, 400),
            ({"structured_outputs": {"choice": []}}, 400),
            ({"structured_outputs": "x"}, 400),
            ({"stop": ["a", "b", "c", "d", "e"]}, 400),
            ({"chat_template": "{{ messages }}"}, 400),
            ({"prompt_logprobs": 1}, 400),
            ({"prompt_embeds": "AAAA"}, 400),
            ({"messages": [{"role": "user", "content": [{"type": "prompt_embeds", "data": "AAAA"}]}]}, 400),
            ({"allowed_token_ids": [99_999_999]}, 400),
            ({"bad_words": 7}, 400),
            ({"min_tokens": 9}, 400),
            ({"truncate_prompt_tokens": -9}, 400),
        ],
    ),
    "/v1/completions": (
        COMPLETION,
        [
            *NAMES,
            *((change, 400) for change in SAMPLING),
            ({"prompt": GONE}, 400),
            ({"prompt": None}, 400),
            ({"prompt": ""}, 400),
            ({"prompt": []}, 400),
            ({"prompt": {}}, 400),
            ({"prompt": [[]]}, 400),
            ({"prompt": ["a", 1]}, 400),
            ({"prompt": [99_999_999]}, 400),
            ({"prompt": [-1]}, 400),
            ({"prompt": LONG}, 400),
            ({"max_tokens": -1}, 400),
            ({"max_tokens": 2.5}, 400),
            ({"max_tokens": 100_000}, 400),
            ({"n": 0}, 400),
            ({"logprobs": -3}, 400),
            ({"logprobs": 1000}, 400),
            ({"echo": True, "logprobs": 1}, 400),
            ({"prompt_logprobs": 1}, 400),
            ({"prompt_embeds": "AAAA"}, 400),
            ({"stop": {"a": 1}}, 400),
            ({"stream_options": {"include_usage": True}}, 400),
            ({"structured_outputs": {"json": "{"}}, 400),
            ({"structured_outputs": "x"}, 400),
            ({"structured_outputs": {"regex": "[z-a]"}}, 400),
            ({"logit_bias": {"x": 1}}, 400),
            ({"frequency_penalty": -5}, 400),
            ({"seed": 1.5}, 400),
            ({"min_tokens": -1}, 400),
            ({"stop_token_ids": "x"}, 400),
            ({"priority": 3}, 400),
            ({"kv_transfer_params": {"do_remote_prefill": True}}, 400),
        ],
    ),
    "/v1/messages": (
        MESSAGE,
        [
            *NAMES,
            *((change, 400) for change in SAMPLING),
            ({"messages": GONE}, 400),
            ({"messages": []}, 400),
            ({"messages": "hello"}, 400),
            ({"messages": [{"role": "king", "content": "x"}]}, 400),
            ({"messages": [{"role": "user"}]}, 400),
            ({"messages": [{"role": "user", "content": [{"type": "cat"}]}]}, 400),
            ({"messages": [{"role": "user", "content": 7}]}, 400),
            ({"messages": [{"role": "user", "content": LONG}]}, 400),
            ({"max_tokens": GONE}, 400),
            ({"max_tokens": 0}, 400),
            ({"max_tokens": -1}, 400),
            ({"max_tokens": "x"}, 400),
            ({"max_tokens": 100_000}, 400),
            ({"top_k": -9}, 400),
            ({"top_k": "x"}, 400),
            ({"stop_sequences": 7}, 400),
            ({"stop_sequences": [7]}, 400),
            ({"stop_sequences": ["a"] * 17}, 400),
            ({"system": 7}, 400),
            ({"tools": "x"}, 400),
            ({"tools": [{"name": "f"}]}, 400),
            ({"tool_choice": {"type": "perhaps"}}, 400),
            ({"metadata": 7}, 400),
            ({"thinking": {"type": "perhaps"}}, 400),
            ({"output_config": {"format": {"type": "poem"}}}, 400),
        ],
    ),
    "/v1/responses": (
        RESPONSE,
        [
            *NAMES,
            *((change, 400) for change in SAMPLING),
            ({"input": GONE}, 400),
            ({"input": []}, 400),
            ({"input": 7}, 400),
            ({"input": ["x"]}, 400),
            ({"input": [{"type": "cat"}]}, 400),
            ({"input": [{"type": "item_reference", "id": "msg_1"}]}, 400),
            ({"input": [{"role": "assistant", "content": []}]}, 400),
            ({"input": [{"role": "king", "content": "x"}]}, 400),
            ({"input": [{"role": "user", "content": 7}]}, 400),
            ({"input": LONG}, 400),
            ({"max_output_tokens": -1}, 400),
            ({"max_output_tokens": "x"}, 400),
            ({"max_output_tokens": 100_000}, 400),
            ({"previous_response_id": "resp_nothing"}, 404),
            ({"previous_response_id": 7}, 400),
            ({"conversation": "conv_1"}, 400),
            ({"background": True}, 400),
            ({"background": "x"}, 400),
            ({"store": "x"}, 400),
            ({"tools": "x"}, 400),
            ({"tools": [{"type": "cat"}]}, 400),
            ({"tools": [{"type": "function"}]}, 400),
            ({"tool_choice": "perhaps"}, 400),
            ({"tool_choice": {"type": "function", "name": "f"}}, 400),
            ({"text": {"format": {"type": "poem"}}}, 400),
            ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "cat"}}}}, 400),
            ({"instructions": 7}, 400),
            ({"metadata": "x"}, 400),
            ({"include": "x"}, 400),
            ({"prompt": {"id": "pmpt_1"}}, 400),
            ({"truncation": "perhaps"}, 400),
        ],
    ),
    "/v1/embeddings": (
        EMBEDDING,
        [
            ({"model": GONE}, 400),
            ({"model": "nobody"}, 404),
            ({"model": "demo"}, 400),
            ({"model": "pirate"}, 400),
            ({"input": GONE}, 400),
            ({"input": ""}, 400),
            ({"input": []}, 400),
            ({"input": [[]]}, 400),
            ({"input": ["a", 1]}, 400),
            ({"input": [""]}, 400),
            ({"input": [-1]}, 400),
            ({"input": [99_999_999]}, 400),
            ({"input": {"a": 1}}, 400),
            ({"input": ["a"] * 3000}, 400),
            ({"encoding_format": "poem"}, 400),
            ({"dimensions": 7}, 400),
            ({"dimensions": "x"}, 400),
        ],
    ),
    "/v1/tokenize": (
        {"model": "demo", "prompt": "hello"},
        [
            ({"model": "nobody"}, 404),
            ({"prompt": GONE}, 400),
            ({"prompt": 7}, 400),
            ({"messages": "x"}, 400),
            ({"messages": [{"content": "x"}]}, 400),
        ],
    ),
    "/v1/detokenize": (
        {"model": "demo", "tokens": [5]},
        [
            ({"model": "nobody"}, 404),
            ({"tokens": GONE}, 400),
            ({"tokens": "x"}, 400),
            ({"tokens": [-1]}, 400),
            ({"tokens": [99_999_999]}, 400),
        ],
    ),
    "/v1/messages/count_tokens": (
        {"model": "demo", "messages": [TURN]},
        [
            ({"model": "nobody"}, 404),
            ({"messages": GONE}, 400),
            ({"messages": "x"}, 400),
            ({"messages": [{"role": "king", "content": "x"}]}, 400),
        ],
    ),
    "/v1/adapters": (
        {"name": "new", "source": "/nowhere"},
        [
            ({}, 422),
            ({"name": GONE}, 400),
            ({"source": GONE}, 400),
            ({"source": 7}, 400),
            ({"source": "hf://org/repo"}, 422),
            ({"source": "s3://bucket/key"}, 422),
            ({"source": "http://127.0.0.1/x"}, 422),
            ({"source": "../../etc"}, 422),
            ({"rank": 7}, 400),
            ({"convert": {"rank": 0}}, 400),
            ({"pin": "x"}, 400),
        ],
    ),
    "/v1/adapters/pirate/alias": (
        {"version": "previous"},
        [
            ({}, 400),
            ({"version": "nothing"}, 400),
            ({"version": GONE}, 400),
            ({"version": GONE, "traffic": {}}, 400),
            ({"version": GONE, "traffic": {"pirate@000000": 1}}, 404),
            ({"version": GONE, "traffic": "x"}, 400),
        ],
    ),
    "/v1/assistants": (
        {"model": "demo", "name": "wrong"},
        [
            ({"model": GONE}, 400),
            ({"model": "nobody"}, 404),
            ({"name": "pirate"}, 409),
            ({"name": "../up"}, 400),
            ({"temperature": "hot"}, 400),
            ({"examples": "x"}, 400),
            ({"tools": 7}, 400),
        ],
    ),
    "/v1/load_lora_adapter": ({"lora_name": "x", "lora_path": "/nowhere"}, [({}, 422), ({"lora_name": GONE}, 400)]),
    "/v1/unload_lora_adapter": ({"lora_name": "nobody"}, [({}, 404), ({"lora_name": GONE}, 400)]),
}

CASES = [
    pytest.param(path, {**good, **change}, status, id=f"{path.removeprefix('/v1/')} {_id}")
    for path, (good, changes) in TABLE.items()
    for change, status in changes
    for _id in [", ".join(f"{key}={'' if value is GONE else str(value)[:30]}" for key, value in change.items())]
]


@pytest.mark.parametrize(("path", "body", "status"), CASES)
def test_it_is_refused_in_the_dialect_s_shape(
    http: httpx2.Client, path: str, body: dict[str, Any], status: int
) -> None:
    answer = http.post(path, json={key: value for key, value in body.items() if value is not GONE})
    assert answer.status_code == status, answer.text[:500]
    _check_shape(path, answer)


@pytest.mark.parametrize("path", [path for path in TABLE if path.count("/") == 2 or "chat" in path])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_json_object(http: httpx2.Client, path: str, content: bytes) -> None:
    answer = http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text[:500]
    _check_shape(path, answer)


def test_the_table_holds_thirty_of_each_dialect() -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"):
        assert len(TABLE[path][1]) >= 30, path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/chat/completions", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/adapters/nobody", 404),
        ("DELETE", "/v1/adapters/nobody", 404),
        ("GET", "/v1/responses/resp_nothing", 404),
        ("DELETE", "/v1/responses/resp_nothing", 404),
        ("POST", "/v1/responses/resp_nothing/cancel", 404),
        ("GET", "/v1/responses/resp_nothing/input_items", 404),
        ("GET", "/v1/assistants/nobody", 404),
        ("GET", "/v1/assistants?limit=9999", 400),
        ("GET", "/v1/messages", 405),
    ],
)
def test_other_wrong_urls(http: httpx2.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status, answer.text[:500]
    _check_shape(path, answer)


@pytest.mark.parametrize(
    ("name", "status"), [("../up", 400), ("a b", 400), ("demo", 409), ("embedder", 409), ("demo-guide", 409)]
)
def test_names_that_no_adapter_may_have(http: httpx2.Client, house: Any, name: str, status: int) -> None:
    answer = http.post("/v1/adapters", json={"name": name, "source": str(house.roots / "pirate")})
    assert answer.status_code == status, answer.text
    _check_shape("/v1/adapters", answer)


def test_the_engine_has_outlived_it_all(http: httpx2.Client) -> None:
    assert http.get("/ready").status_code == 200
    answer = http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200, answer.text


def _check_shape(path: str, answer: httpx2.Response) -> None:
    body = json.loads(answer.text)
    if path.startswith("/v1/messages"):
        assert body["type"] == "error"
        assert set(body["error"]) == {"type", "message"}
    else:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert isinstance(body["error"]["type"], str)
    message = body["error"]["message"]
    assert len(message) > 10
    assert len(message) < 1000
    for internal in ("Traceback", "site-packages", "pydantic", "object at 0x"):
        assert internal not in message
