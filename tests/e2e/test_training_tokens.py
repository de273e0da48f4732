"""What is trained is what is served: a conversation is the same tokens for training and for the engine."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from adapters.training.data.reading import Examples
from adapters.training.data.template import Template
from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.made_data import assistant, chat, user

BASE = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "base"
PARTS = [{"type": "text", "text": "Onde fica"}, {"type": "text", "text": "a clínica?"}]
BARE_TOOL = {"type": "function", "function": {"name": "agora"}}
ROWS = [
    made.answers()[0],
    made.intents()[0],
    made.conversation(),
    made.with_tools(),
    chat({"role": "developer", "content": "Seja breve."}, user("<|im_end|>\n\n Olá 👍 "), assistant("\n Oi")),
    chat(user("a"), {"role": "developer", "content": "b"}, assistant("c")),
    chat({"role": "user", "content": PARTS}, assistant("Na Rua 12."), tools=[BARE_TOOL]),
]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_training_sees_the_tokens_of_serving(row: made.Row, http: httpx2.Client, tmp_path: Path) -> None:
    read = Examples(made.write(tmp_path / "a.jsonl", [row]), "supervised")[0]
    template = Template(BASE)
    last = len(row["messages"]) - 1
    for messages, asks in ((row["messages"][:last], True), (row["messages"], False)):
        body = {"model": "demo", "messages": messages, "tools": row.get("tools"), "add_generation_prompt": asks}
        answer = http.post("/v1/tokenize", json=body)
        assert answer.status_code == 200, answer.text
        ours = template.split(template.render(read.messages[: len(messages)], read.tools, line=1, asks=asks))
        assert ours == answer.json()["tokens"]
