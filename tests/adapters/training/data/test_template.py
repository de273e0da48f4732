from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.training.data.template import Template
from adapters.training.errors import JobInvalid
from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.conftest import DEMO, MakeBase, chat_from
from tests.adapters.training.data.made_data import assistant, chat, user

SEEN = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"


def rendered(base: Path, row: made.Row) -> str:
    read = chat_from(row)
    return Template(base).render(read.messages, read.tools, line=1)


def test_parts_are_joined_where_the_template_takes_strings(make_base: MakeBase) -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert rendered(make_base(SEEN), chat(parts, assistant("c"))) == "[user:a\nb][assistant:c]"
    walks = "{% for m in messages %}{% for part in m.content %}<{{ part.text }}>{% endfor %}{% endfor %}"
    assert rendered(make_base(walks), chat(parts, assistant("c"))) == "<a><b><c>"


def test_a_developer_is_the_system_where_the_template_knows_none(make_base: MakeBase) -> None:
    told = {"role": "developer", "content": "d"}
    row = chat(user("a"), told, assistant("b"))
    assert rendered(make_base(SEEN), row) == "[system:d][user:a][assistant:b]"
    assert rendered(make_base("{# 'developer' #}" + SEEN), row) == "[user:a][developer:d][assistant:b]"
    assert rendered(make_base(SEEN), chat(told, user("a"), assistant("b"))) == "[system:d][user:a][assistant:b]"


def test_tools_stand_as_the_server_writes_them_out(make_base: MakeBase) -> None:
    row = chat(user("a"), assistant("b"), tools=[{"function": {"strict": True, "name": "f"}, "type": "function"}])
    written = rendered(make_base("{{ tools | tojson }}"), row)
    assert written == json.dumps(
        [{"type": "function", "function": {"name": "f", "description": None, "parameters": None, "strict": True}}]
    )


def test_thoughts_stand_under_both_names(make_base: MakeBase) -> None:
    base = make_base("{{ messages[1].reasoning }} {{ messages[1].reasoning_content }}")
    assert rendered(base, chat(user("a"), assistant("b", reasoning_content="c"))) == "c c"


def test_the_end_of_an_answer_is_what_serving_stops_at(tmp_path: Path, make_base: MakeBase) -> None:
    template = Template(DEMO)
    assert (template.stop, template.end_of_text) == (2, 0)  # <|im_end|>, <|endoftext|>
    other = make_base("chatml")
    (other / "generation_config.json").write_text('{"eos_token_id": [1, 0]}')
    assert Template(other).stop == 1
    (other / "generation_config.json").write_text("broken")
    assert Template(other).stop == 2


def test_a_turn_ends_with_its_token_and_not_with_the_space_behind_it() -> None:
    template = Template(DEMO)
    for text, expected in [("Oi<|im_end|>\n \n", "Oi<|im_end|>"), ("Oi\n", "Oi\n"), ("<|im_end|>Oi", "<|im_end|>Oi")]:
        assert template.ended(template.split(text)) == template.split(expected)


def test_a_base_without_a_template_takes_no_conversations(make_base: MakeBase) -> None:
    base = make_base("chatml")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(JobInvalid, match="only continued_pretraining"):
        rendered(base, made.answers()[0])
    assert Template(base).document("Olá") == Template(DEMO).split("Olá")
