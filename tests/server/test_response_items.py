"""Input items as the engine reads them: nothing that was said gets lost on the way, and nothing fails on its form."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from server.engine.fake import FakeEngine
from server.errors import ApiError
from server.rendering import rendered
from server.response_items import for_engine, read_items
from server.services import Services


def _said(*parts: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": list(parts)}


def _text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], **more}


REFUSED = {"type": "refusal", "refusal": "no"}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([_text("a"), _text("b")], "a\nb"),
        ([REFUSED], "no"),
        ([_text("a"), REFUSED], "a\nno"),
        ([_text("a"), {"type": "output_text", "text": ""}, {"type": "output_text", "text": "c"}], "a\nc"),
        ([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb"),
        ([{"type": "refusal", "refusal": ""}], ""),
    ],
)
async def test_an_assistant_s_message_has_the_words_of_all_its_parts(parts: list[Any], text: str) -> None:
    item = _said(*parts)
    [made] = for_engine([item])
    assert made == {**item, "content": [_text(text)]}
    counted = await rendered({"input": [made]}, "responses", FakeEngine())
    assert counted == await rendered({"input": [{"role": "assistant", "content": text}]}, "responses", FakeEngine())


@pytest.mark.parametrize(
    "item",
    [
        _said(_text("a", logprobs=None)),
        {"type": "message", "role": "assistant", "content": "a"},
        {"type": "message", "role": "assistant"},
        _said({"type": "cat"}),
        _said(_text("a"), {"type": "cat"}),
        _said(_text("a"), 7),
        _said(_text("a"), {"type": ["cat"]}),
        _said(_text("a"), {"type": "refusal"}),
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
    ],
)
def test_other_items_are_the_engine_s_to_judge(item: dict[str, Any]) -> None:
    assert for_engine([item]) == [item]


def test_a_message_of_the_client_s_has_no_id() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    sent = read_items([{"role": "user", "content": parts}])
    assert sent[0]["id"].startswith("msg_")
    assert for_engine(sent) == [{"role": "user", "content": parts, "type": "message"}]


def test_a_message_of_the_assistant_s_without_parts_is_left_out() -> None:
    asked = {"role": "user", "content": "hi", "type": "message"}
    assert for_engine([_said(), asked, _said()]) == [asked]
    with pytest.raises(ApiError) as caught:
        for_engine([_said()])
    assert (caught.value.status, caught.value.param) == (400, "input")


@pytest.mark.parametrize("type_", [{}, {"type": "message"}, {"type": None}])
async def test_a_request_brings_all_that_was_said_to_the_engine(
    http: httpx2.AsyncClient, engine: FakeEngine, type_: dict[str, Any]
) -> None:
    asked = {"role": "user", "content": "hi"}
    earlier = {**type_, "role": "assistant", "content": [_text("a"), REFUSED]}
    empty = {**type_, "role": "assistant", "content": []}
    answer = await http.post("/v1/responses", json={"model": "demo", "input": [asked, earlier, empty, asked]})
    assert answer.status_code == 200, answer.text
    sent = engine.calls[-1].body["input"]
    assert [item["content"] for item in sent] == ["hi", [_text("a\nno")], "hi"]
    listed = (await http.get(f"/v1/responses/{answer.json()['id']}/input_items?order=asc")).json()["data"]
    assert [item["content"] for item in listed] == ["hi", earlier["content"], [], "hi"]  # kept as it was sent


@pytest.mark.parametrize("how", [{}, {"stream": True}, {"background": True}])
@pytest.mark.parametrize("type_", [{"type": "item_reference"}, {"type": None}, {}])
async def test_a_reference_to_an_item_is_refused_before_anything_is_kept(
    http: httpx2.AsyncClient,
    engine: FakeEngine,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    type_: dict[str, Any],
    how: dict[str, Any],
) -> None:
    kept: list[object] = []
    monkeypatch.setattr(services.responses, "save", kept.append)
    items = [{"role": "user", "content": "hi"}, {**type_, "id": "msg_1"}]
    answer = await http.post("/v1/responses", json={"model": "demo", "input": items, **how})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "input[1]")
    assert "`previous_response_id`" in error["message"]
    assert (engine.calls, kept) == ([], [])
