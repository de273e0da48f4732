"""Anthropic's messages answered from sources, through Anthropic's client."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.e2e.library import CONTROL, SKY, Library, retrieval

ASK: Any = [{"role": "user", "content": SKY}]
SHOP: Any = [{"role": "user", "content": "When does Brisa Bikes open?"}]


@pytest.mark.parametrize("model", ["demo", "pirate", "demo-guide"])
def test_a_stream_says_what_the_whole_message_says(claude: anthropic.Anthropic, library: Library, model: str) -> None:
    asked: Any = {
        "model": model,
        "max_tokens": 24,
        "messages": ASK,
        "extra_body": {"temperature": 0, "retrieval": library.asked},
    }
    whole = claude.messages.create(**asked)
    assert whole.model == model
    found = retrieval(whole)
    best = max(found["sources"], key=lambda source: source["score"])
    assert best["filename"] == "lumen.md"
    assert best["text"].endswith("The colour of the sky over Lumen is green.")
    (block,) = whole.content
    assert block.type == "text"
    assert block.text
    assert not CONTROL.search(block.text)
    plain = claude.messages.count_tokens(model=model, messages=ASK)
    assert whole.usage.input_tokens > plain.input_tokens + 20
    with claude.messages.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert [one.model_dump() for one in final.content] == [one.model_dump() for one in whole.content]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    opening = retrieval(events[0].message)["sources"]
    assert [source["file_id"] for source in opening] == [source["file_id"] for source in found["sources"]]


def test_null_switches_an_assistants_sources_off(claude: anthropic.Anthropic) -> None:
    grounded = claude.messages.create(model="demo-guide", max_tokens=4, messages=SHOP)
    plain = claude.messages.create(model="demo-guide", max_tokens=4, messages=SHOP, extra_body={"retrieval": None})
    assert retrieval(grounded)["sources"]
    assert "retrieval" not in (plain.model_extra or {})
    assert grounded.usage.input_tokens > plain.usage.input_tokens + 100


def test_what_is_asked_wrongly_has_anthropics_shape(claude: anthropic.Anthropic, library: Library) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nowhere") as missing:
        claude.messages.create(
            model="demo", max_tokens=4, messages=ASK, extra_body={"retrieval": {"vector_store_ids": ["nowhere"]}}
        )
    assert missing.value.body["type"] == "error"  # type: ignore[index]  # typed as object
    wrong = library.asked | {"ranking_options": {"ranker": "best"}}
    with pytest.raises(anthropic.BadRequestError, match="ranker"):
        claude.messages.create(model="demo", max_tokens=4, messages=ASK, extra_body={"retrieval": wrong})
