"""Few-shot turns go one by one, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.assistants import Plan, dress
from server.engine.base import Dialect
from server.engine.fake import FakeEngine
from server.examples import with_one_example_fewer
from server.storage.assistant import Assistant

EXAMPLES = ({"user": "Is it due?", "assistant": "Yes."}, {"user": "Is it late?", "assistant": "No."})
LAWYER = Assistant(id="asst_1", name="lawyer", model="demo", created_at=0, instructions="Be exact.", examples=EXAMPLES)
BODIES: dict[Dialect, dict[str, Any]] = {
    "chat": {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "When?"}]},
    "messages": {"system": "Be kind.", "messages": [{"role": "user", "content": [{"type": "text", "text": "When?"}]}]},
    "responses": {"input": "When?", "instructions": "Be kind."},
}


@pytest.mark.parametrize("has_system_role", [True, False])
@pytest.mark.parametrize("dialect", BODIES)
async def test_each_step_is_a_body_dressed_with_fewer_examples(dialect: Dialect, has_system_role: bool) -> None:
    engine = FakeEngine()
    engine.facts = replace(engine.facts, has_system_role=has_system_role)
    body = await _dressed(dialect, 2, engine)
    for left in (1, 0):
        fewer = with_one_example_fewer(body, LAWYER, dialect)
        assert fewer is not None
        body = fewer
        assert _words(body) == _words(await _dressed(dialect, left, engine))
    assert with_one_example_fewer(body, LAWYER, dialect) is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "Yes."}]},
        {"messages": [{"role": "user", "content": "Is it due?"}]},
        {"messages": ["odd", None]},
    ],
)
def test_a_body_without_examples_has_none_to_lose(body: dict[str, Any]) -> None:
    assert with_one_example_fewer(body, LAWYER, "chat") is None
    assert with_one_example_fewer(body, None, "chat") is None


async def _dressed(dialect: Dialect, n_examples: int, engine: FakeEngine) -> dict[str, Any]:
    fields = {name: getattr(LAWYER, name) for name in ("id", "name", "model", "created_at", "instructions")}
    assistant = Assistant(**fields, examples=EXAMPLES[:n_examples])
    plan = Plan(public_name="lawyer", version=None, assistant=assistant)
    return await dress(BODIES[dialect], plan, dialect, engine)


def _words(body: dict[str, Any]) -> Any:
    """The turns with their texts; where an opening stands, as a part or before the words, makes no difference."""
    turns = body.get("messages") or body["input"]
    told = [(turn["role"], _joined(turn["content"])) for turn in turns]
    return told, body.get("system"), body.get("instructions")


def _joined(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
