"""A file for every kind of data that is refused: what it holds, the line that is wrong, and a word of what is said.

Good lines stand before the bad one, so that its number is found and not guessed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from adapters.training.data.lines import MAX_LINE_BYTES
from adapters.training.method import Kind
from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.made_data import Row, assistant, chat, user

GOOD = made.jsonl([made.conversation()])
GOOD_PREFERENCE = made.jsonl(made.preferences()[:1])
GOOD_TEXT = made.jsonl(made.texts()[:1])
ASK, ANSWER = user("Olá"), assistant("Bom dia!")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One file."""

    kind: str
    says: str  # stands in the message
    content: bytes
    line: int = 2
    method: Kind = "supervised"

    def __str__(self) -> str:
        return f"{self.kind}: {self.says}"


def row(kind: str, says: str, value: object) -> Bad:
    """Chat data whose second line is this."""
    return Bad(kind=kind, says=says, content=GOOD + json.dumps(value).encode())


def raw(kind: str, says: str, line: bytes) -> Bad:
    return Bad(kind=kind, says=says, content=GOOD + line)


def preference(kind: str, says: str, value: object) -> Bad:
    return Bad(kind=kind, says=says, content=GOOD_PREFERENCE + json.dumps(value).encode(), method="dpo")


def text(kind: str, says: str, value: object) -> Bad:
    return Bad(kind=kind, says=says, content=GOOD_TEXT + json.dumps(value).encode(), method="continued_pretraining")


def call(**function: Any) -> Row:
    return {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def called(*calls: object) -> Row:
    return chat(ASK, {"role": "assistant", "tool_calls": list(calls)})


def tool(**function: Any) -> Row:
    return chat(ASK, ANSWER, tools=[{"type": "function", "function": function}])


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


PREFERENCE = made.preferences()[0]
TEXT = {"dia": {"type": "text"}}
F = {"name": "f", "arguments": "{}"}

BAD = [
    # the file and its lines
    Bad(kind="no_examples", says="no example", content=b"\n\n", line=0),
    Bad(kind="no_examples", says="no example", content=b"", line=0, method="continued_pretraining"),
    raw("not_utf8", "byte 36 of the line (0xe3)", json.dumps(chat(ASK)).encode()[:35] + "ã".encode("latin-1")),
    Bad(kind="not_utf8", says="UTF-16", content='{"messages": []}'.encode("utf-16"), line=1),
    Bad(kind="not_utf8", says="byte 2 ", content=b"Um\ndois\nm\xe3", line=3, method="continued_pretraining"),
    raw("binary", "zero byte", b'{"messages"\x00: []}'),
    raw("too_long", "4 MiB", b'{"messages": "' + b"a" * MAX_LINE_BYTES + b'"}'),
    # JSON
    raw("not_json", "column 15", b'{"messages": [}'),
    raw("not_json", "column 1: ", b"user: ola"),
    raw("not_json", "on one line", b'{\n"messages": []}\n'),
    raw("not_json", "ends within", b'{"messages": [{"role": "user"'),
    raw("not_json", "thousands of digits", b'{"messages": ' + b"1" * 5000 + b"}"),
    Bad(kind="array_file", says="without [ ]", content=json.dumps([chat(ASK, ANSWER)]).encode(), line=1),
    Bad(kind="array_file", says="JSON Lines", content=b"[\n" + GOOD.rstrip() + b"\n]", line=1),
    row("not_object", "a string", "Olá"),
    row("not_object", "an array", ["Olá"]),
    raw("duplicate_key", "'role'", b'{"messages": [{"role": "user", "role": "user", "content": "a"}]}'),
    raw("not_finite", "NaN", b'{"messages": [{"role": "assistant", "content": "a", "weight": NaN}]}'),
    raw("not_finite", "1e999", b'{"messages": [{"role": "assistant", "content": "a", "weight": 1e999}]}'),
    raw("lone_surrogate", "\\ud83d", b'{"messages": [{"role": "user", "content": "\\ud83d"}]}'),
    raw("too_deep", "deeper than 64", f'{{"messages": {nested(65)}}}'.encode()),
    raw("too_deep", "deeper than 64", f'{{"messages": {nested(100_000)}}}'.encode()),
    # which format
    row("other_method", '"dpo"', PREFERENCE),
    row("other_method", '"continued_pretraining"', {"text": "Olá"}),
    preference("other_method", '"supervised" or "prompt_tuning"', made.conversation()),
    text("other_method", '"dpo"', PREFERENCE),
    row("other_format", "'prompt'", {"prompt": "Olá", "completion": "Bom dia!"}),
    row("other_format", '"messages"', {"conversations": [{"from": "human", "value": "Olá"}]}),
    preference("other_format", "preferred_output", {"prompt": "Olá", "chosen": "Bom dia!", "rejected": "?"}),
    # keys and types
    row("unknown_key", "did you mean 'messages'?", {"mesages": [ASK, ANSWER]}),
    row("unknown_key", "messages[0] has an unknown key 'text'", chat({"role": "user", "text": "Olá"}, ANSWER)),
    row("unknown_key", "'weight'", chat({**ASK, "weight": 1}, ANSWER)),
    preference("unknown_key", "'weight'", {**PREFERENCE, "preferred_output": [assistant("a", weight=1)]}),
    row("wrong_type", "it must be true or false", chat(ASK, ANSWER, parallel_tool_calls=1)),
    row("wrong_type", "messages is an object", {"messages": ASK}),
    row("wrong_type", "messages[1] is a string", chat(ASK, "Bom dia!")),  # type: ignore[arg-type]  # meant to be wrong
    row("wrong_type", "content is a number", chat({"role": "user", "content": 3}, ANSWER)),
    row("wrong_type", "content is null", chat({"role": "user", "content": None}, ANSWER)),
    row("wrong_type", "content[0] must be", chat({"role": "user", "content": [{"text": "Olá"}]}, ANSWER)),
    row("wrong_type", "name is a number", chat({**ASK, "name": 3}, ANSWER)),
    text("wrong_type", "text is an array", {"text": ["Olá"]}),
    # messages
    row("missing_messages", "no `messages`", {}),
    row("missing_messages", "no `messages`", {"messages": None}),
    preference("missing_messages", "no `input.messages`", {**PREFERENCE, "input": {}}),
    row("empty_messages", "is empty", chat()),
    row("too_many_messages", "1000 are the most", chat(*[ASK] * 1000, ANSWER)),
    row("unknown_role", "messages[0].role is 'bot'", chat({"role": "bot", "content": "Olá"}, ANSWER)),
    row("unknown_role", 'the role "tool"', chat(ASK, {"role": "function", "content": "1"}, ANSWER)),
    row("not_text", "'image_url'", chat({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER)),
    row("first_assistant", "before it", chat(ANSWER, ASK, ANSWER)),
    row("no_assistant", "no message is the assistant's", chat(ASK)),
    row("no_weight", "weight 0", chat(ASK, assistant("a", weight=0))),
    row("last_not_assistant", "messages[2] is the user's", chat(ASK, ANSWER, ASK)),
    row("empty_assistant", "messages[1]", chat(ASK, {"role": "assistant"})),
    row("empty_assistant", "messages[1]", chat(ASK, assistant(" \n"))),
    row("empty_assistant", "messages[1]", chat(ASK, {"role": "assistant", "content": "", "tool_calls": []})),
    row("bad_weight", "weight is 0.5", chat(ASK, assistant("a", weight=0.5))),
    row("bad_weight", "weight is true", chat(ASK, assistant("a", weight=True))),
    row("bad_weight", "weight is '1'", chat(ASK, assistant("a", weight="1"))),
    # functions
    row("legacy_functions", "`tools`", chat(ASK, ANSWER, functions=[])),
    row("legacy_functions", "`tool_calls`", chat(ASK, {"role": "assistant", "function_call": F})),
    row("bad_tool", "array of tools", chat(ASK, ANSWER, tools={})),
    row("bad_tool", "tools[0] is a string", chat(ASK, ANSWER, tools=["f"])),
    row("bad_tool", "must be", chat(ASK, ANSWER, tools=[{"type": "retrieval", "function": F}])),
    row("bad_tool", "name is null", tool(description="sem nome")),
    row("bad_tool", "name is 'horários livres'", tool(name="horários livres")),
    row("bad_tool", "second function", chat(ASK, ANSWER, tools=[made.FREE_HOURS, made.FREE_HOURS])),
    row("bad_tool", "description is a number", tool(name="f", description=1)),
    row("bad_tool", "it must be an object", tool(name="f", parameters=[])),
    row("bad_tool", 'its type is \'array\'', tool(name="f", parameters={"type": "array"})),
    row("bad_tool", "parameters.properties.dia.type is 'text'", tool(name="f", parameters={"properties": TEXT})),
    row("bad_tool", "parameters.required", tool(name="f", parameters={"required": "dia"})),
    row("bad_tool", "parameters.anyOf[0] is a number", tool(name="f", parameters={"anyOf": [1]})),
    row("bad_tool", "parameters.anyOf must be", tool(name="f", parameters={"anyOf": {}})),
    row("bad_tool", "parameters.properties is an array", tool(name="f", parameters={"properties": []})),
    row("bad_tool", "parameters.enum", tool(name="f", parameters={"enum": 1})),
    row("bad_tool_call", "array of calls", chat(ASK, {"role": "assistant", "tool_calls": {"id": "c1"}})),
    row("bad_tool_call", "tool_calls[0] is a string", called("f")),
    row("bad_tool_call", "only \"function\"", called({"id": "c1", "type": "custom", "function": F})),
    row("bad_tool_call", "no `id`", called({"type": "function", "function": F})),
    row("bad_tool_call", "at two calls", called({"id": "c1", "function": F}, {"id": "c1", "function": F})),
    row("bad_tool_call", "function must be", chat(ASK, call(arguments="{}"))),
    row("bad_arguments", "arguments is an object", chat(ASK, call(name="f", arguments={}))),
    row("bad_arguments", "cannot be read: ", chat(ASK, call(name="f", arguments="{dia: 1}"))),
    row("bad_arguments", "must hold a JSON object", chat(ASK, call(name="f", arguments="[1]"))),
    row("unknown_function", "`tools` has 'horarios_livres'", chat(ASK, call(**F), tools=[made.FREE_HOURS])),
    row("tool_without_call", "no assistant's message", chat(ASK, {"role": "tool", "content": "1"}, ANSWER)),
    row(
        "tool_without_call",
        "earlier calls: 'c1'",
        chat(ASK, call(**F), {"role": "tool", "tool_call_id": "c2", "content": "1"}, ANSWER),
    ),
    # preferences
    preference("missing_input", "`input` is null", {key: PREFERENCE[key] for key in PREFERENCE if key != "input"}),
    preference("missing_output", "no `preferred_output`", {**PREFERENCE, "preferred_output": None}),
    preference("bad_output", "is a string", {**PREFERENCE, "preferred_output": "Bom dia!"}),
    preference("bad_output", "array of 2", {**PREFERENCE, "non_preferred_output": [ANSWER, ANSWER]}),
    preference("bad_output", "is the user's", {**PREFERENCE, "non_preferred_output": [ASK]}),
    preference("equal_outputs", "the same", {**PREFERENCE, "non_preferred_output": PREFERENCE["preferred_output"]}),
    preference("last_assistant", "stand in the outputs", {**PREFERENCE, "input": chat(ASK, ANSWER)}),
    # plain text
    text("missing_text", "no `text`", {"text": None}),
    text("empty_text", "is empty", {"text": " "}),
]  # fmt: skip
