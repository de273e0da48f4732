from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.training.data.rendering import Rendered, Renderer
from adapters.training.data.text import Text
from adapters.training.errors import DataInvalid
from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.conftest import DEMO, MakeBase, chat_from, preference_from, told
from tests.adapters.training.data.made_data import assistant, chat, user

# a family's template, its control tokens, and how its turns end
FAMILIES = {
    "chatml": ({}, "<|im_end|>"),
    "llama3": ({"special": ("<|eot_id|>", "<|start_header_id|>"), "eos_token": "<|eot_id|>"}, "<|eot_id|>"),
    "llama2": ({"bos_token": "<s>", "eos_token": "</s>"}, "</s>"),
    "mistral": ({"bos_token": "<s>", "eos_token": "</s>"}, "</s>"),
    "phi": ({"special": ("<|end|>",), "eos_token": "<|end|>"}, "<|end|>"),
    "zephyr": ({"eos_token": "</s>"}, "</s>"),
    "vicuna": ({"eos_token": "</s>"}, "</s>"),
    "deepseek": ({"bos_token": "<s>", "eos_token": "</s>"}, "</s>"),
    "command_r": ({"bos_token": "<s>", "eos_token": "<|END_OF_TURN_TOKEN|>"}, "<|END_OF_TURN_TOKEN|>"),
}
TWO_TURNS = chat(user("Bom dia!"), assistant("Bom dia! Como vai?"), user("Onde fica?"), assistant("Na Rua 12. 👍"))


def learnt(renderer: Renderer, rendered: Rendered) -> list[str]:
    """What is trained, a string for each stretch of it."""
    turns: list[list[int]] = []
    for i, (token, is_trained) in enumerate(zip(rendered.tokens, rendered.trained, strict=True)):
        if is_trained:
            if i == 0 or not rendered.trained[i - 1]:
                turns.append([])
            turns[-1].append(token)
    return [told(renderer, turn) for turn in turns]


@pytest.mark.parametrize("row", [*made.answers(), *made.intents()[::9]], ids=lambda row: row["messages"][-2]["content"])
def test_the_answer_and_the_end_of_the_turn_are_learnt(row: made.Row, demo: Renderer) -> None:
    rendered = demo.chat(chat_from(row))
    assert learnt(demo, rendered) == [row["messages"][-1]["content"] + "<|im_end|>"]
    assert (rendered.cut, rendered.only_last) == (0, False)


def test_each_turn_is_learnt_but_those_of_weight_0(demo: Renderer) -> None:
    assert learnt(demo, demo.chat(chat_from(TWO_TURNS))) == ["Bom dia! Como vai?<|im_end|>", "Na Rua 12. 👍<|im_end|>"]
    rendered = demo.chat(chat_from(made.conversation()))
    assert learnt(demo, rendered) == ["Na Rua das Acácias, 120. 👍<|im_end|>"]
    assert "Como posso ajudar?<|im_end|>" in told(demo, rendered.tokens)  # what is not learnt is still read


def test_what_follows_the_last_learnt_turn_is_left_out(demo: Renderer) -> None:
    row = chat(user("Olá"), assistant("Oi"), user("E?"), assistant("Nada", weight=0))
    assert (
        told(demo, demo.chat(chat_from(row)).tokens)
        == "<|im_start|>user\nOlá<|im_end|>\n<|im_start|>assistant\nOi<|im_end|>"
    )


def test_calls_are_learnt_as_the_template_writes_them(demo: Renderer) -> None:
    rendered = demo.chat(chat_from(made.with_tools()))
    call = '{"name": "horarios_livres", "arguments": {"dia": "segunda", "turno": "manhã"}}'
    assert learnt(demo, rendered) == [
        f"<tool_call>\n{call}\n</tool_call><|im_end|>",
        "Sim: às 9h ou às 10h30.<|im_end|>",
    ]
    whole = told(demo, rendered.tokens)
    assert '"description": "Horários livres de um dia."' in whole
    assert '<tool_response>\n["9h", "10h30"]\n</tool_response>' in whole


def test_control_tokens_in_text_are_what_serving_makes_of_them(demo: Renderer) -> None:
    rendered = demo.chat(chat_from(chat(user("a<|im_end|>b"), assistant("c"))))
    whole = "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\nc<|im_end|>"
    assert rendered.tokens == demo._template.split(whole)
    assert rendered.tokens.count(2) == 3
    assert learnt(demo, rendered) == ["c<|im_end|>"]


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12) | st.sampled_from(
    ["\n\nOlá", " x", "<|im_end|>", "<|im_end|>\n", "<|im_start|>assistant\n", "\t\n ", "ção"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(_TEXTS, min_size=2, max_size=6).filter(lambda said: all(one.strip() for one in said)))
def test_whatever_is_said_the_prompt_is_as_in_serving_and_the_answers_are_learnt(
    said: list[str], demo: Renderer
) -> None:
    said = said[: len(said) // 2 * 2]
    read = chat_from(chat(*((user, assistant)[i % 2](text) for i, text in enumerate(said))))
    rendered = demo.chat(read)
    assert not rendered.only_last
    asked = demo._template.split(demo._template.render(read.messages[:1], (), line=1, asks=True))
    assert rendered.tokens[: len(asked)] == asked
    assert told(demo, rendered.tokens) == demo._template.render(read.messages, (), line=1).removesuffix("\n")
    assert learnt(demo, rendered) == [text + "<|im_end|>" for text in said[1::2]]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_its_turns_and_where_they_end(family: str, make_base: MakeBase) -> None:
    tokens, end = FAMILIES[family]
    renderer = Renderer(make_base(family, **tokens), context_tokens=2048)
    read = chat_from(TWO_TURNS)
    rendered = renderer.chat(read)
    turns = learnt(renderer, rendered)
    assert [turn.strip().removesuffix(end).strip() for turn in turns] == ["Bom dia! Como vai?", "Na Rua 12. 👍"]
    assert all(turn.endswith(end) for turn in turns)
    asked = renderer._template.render(read.messages[:1], (), line=1, asks=True)
    first = rendered.trained.index(True)
    assert rendered.tokens[:first] == renderer._template.split(asked)


def test_a_template_that_opens_a_thought_learns_the_last_turn_only(make_base: MakeBase) -> None:
    renderer = Renderer(make_base("qwen"), context_tokens=2048)
    rendered = renderer.chat(chat_from(TWO_TURNS))
    assert rendered.only_last
    assert learnt(renderer, rendered) == ["Na Rua 12. 👍<|im_end|>"]
    assert told(renderer, rendered.tokens).endswith("<|im_start|>assistant\n<think>\nNa Rua 12. 👍<|im_end|>")


def test_an_answer_that_begins_as_the_opened_thought_loses_nothing(make_base: MakeBase) -> None:
    renderer = Renderer(make_base("qwen"), context_tokens=2048)
    rendered = renderer.chat(chat_from(chat(user("?"), assistant("<thanks>"))))
    assert learnt(renderer, rendered) == ["<thanks><|im_end|>"]


def test_a_template_that_drops_earlier_thoughts_learns_the_last_turn_only(make_base: MakeBase) -> None:
    drops = (
        "{%- for m in messages %}{%- set said = m.content if loop.last else m.content.split('</think>')[-1] %}"
        "{{- '<|im_start|>' + m.role + '\n' + said + '<|im_end|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
    )
    renderer = Renderer(make_base(drops), context_tokens=2048)
    row = chat(user("1"), assistant("<think>a</think>b"), user("2"), assistant("<think>c</think>d"))
    rendered = renderer.chat(chat_from(row))
    assert rendered.only_last
    assert learnt(renderer, rendered) == ["<think>c</think>d<|im_end|>"]
    assert "<think>a" not in told(renderer, rendered.tokens)


def test_where_no_token_ends_a_turn_one_is_put_there(make_base: MakeBase) -> None:
    plain = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    renderer = Renderer(make_base(plain), context_tokens=2048)
    rendered = renderer.chat(chat_from(chat(user("Olá"), assistant("Oi"))))
    assert told(renderer, rendered.tokens[:-1]).startswith("user: Olá\nassistant: Oi")
    assert rendered.tokens[-1] == renderer._template.stop
    assert rendered.trained[-1]
    # "assistant: Oi" has the token " Oi", which serving, whose prompt ends with the space, never gives
    asked = renderer._template.split("user: Olá\nassistant: ")
    assert rendered.tokens[: len(asked)] == asked
    assert learnt(renderer, rendered)[0].startswith("Oi")


def test_a_template_that_rewrites_the_question_is_refused(make_base: MakeBase) -> None:
    rewrites = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataInvalid, match="in another way") as refused:
        Renderer(make_base(rewrites), context_tokens=64).chat(chat_from(chat(user("a"), assistant("b")), line=7))
    assert (refused.value.kind, refused.value.line) == ("not_rendered", 7)


def test_a_conversation_that_the_template_does_not_take_is_refused_with_its_words(make_base: MakeBase) -> None:
    renderer = Renderer(make_base("gemma", eos_token="<end_of_turn>"), context_tokens=64)
    with pytest.raises(DataInvalid, match="there is no system role") as refused:
        renderer.chat(chat_from(made.intents()[0], line=3))
    assert (refused.value.kind, refused.value.line) == ("not_rendered", 3)


def test_what_is_beyond_the_context_is_cut_off() -> None:
    renderer = Renderer(DEMO, context_tokens=24)
    rendered = renderer.chat(chat_from(chat(user("Olá"), assistant("muito " * 20))))
    assert len(rendered.tokens) == len(rendered.trained) == 24
    assert rendered.cut > 0
    with pytest.raises(DataInvalid, match="the context has 24") as refused:
        renderer.chat(chat_from(chat(user("muito " * 40), assistant("Oi")), line=5))
    assert (refused.value.kind, refused.value.line) == ("nothing_fits", 5)


def test_turns_beyond_the_context_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, whole = Renderer(DEMO, context_tokens=60), Renderer(DEMO, context_tokens=100_000)
    read = chat_from(chat(*(message for i in range(100) for message in (user(f"Pergunta {i}?"), assistant("Sim.")))))
    everything = whole.chat(read)
    renders: list[int] = []
    render = renderer._template.render
    monkeypatch.setattr(
        renderer._template, "render", lambda said, *a, **b: renders.append(len(said)) or render(said, *a, **b)
    )
    rendered = renderer.chat(read)
    assert sum(renders) < 1000  # of 100 turns, 5 or so are in the context
    assert (rendered.tokens, rendered.trained) == (everything.tokens[:60], everything.trained[:60])
    assert rendered.cut == pytest.approx(len(everything.tokens) - 60, abs=2)


def test_a_text_is_learnt_whole_and_its_end_too(demo: Renderer) -> None:
    rendered = demo.text(Text("A coleta vai das sete às dez.\n\nTraga documento.", 1))
    assert told(demo, rendered.tokens) == "A coleta vai das sete às dez.\n\nTraga documento.<|endoftext|>"
    assert all(rendered.trained)
    assert len(rendered.trained) == len(rendered.tokens)


def test_both_answers_follow_the_prompt_that_serving_gives(demo: Renderer) -> None:
    pair = demo.preference(preference_from(made.preferences()[0]))
    assert told(demo, pair.prompt) == "<|im_start|>user\nOnde fica a clínica?<|im_end|>\n<|im_start|>assistant\n"
    assert told(demo, pair.chosen) == "A Clínica Boa Vista fica na Rua das Acácias, 120.<|im_end|>"
    assert told(demo, pair.rejected) == "Não sei.<|im_end|>"
    assert pair.cut == 0


def test_answers_are_cut_to_the_context_and_must_still_differ() -> None:
    row = made.preference(user("Olá"), chosen="sim " * 30, rejected="não " * 30)
    pair = Renderer(DEMO, context_tokens=24).preference(preference_from(row))
    assert len(pair.prompt) + len(pair.chosen) == len(pair.prompt) + len(pair.rejected) == 24
    assert pair.cut > 0
    with pytest.raises(DataInvalid) as refused:
        Renderer(DEMO, context_tokens=24).preference(
            preference_from(made.preference(user("Olá"), chosen="sim " * 30 + "a", rejected="sim " * 30 + "b"))
        )
    assert refused.value.kind == "equal_outputs"
    with pytest.raises(DataInvalid) as refused:
        Renderer(DEMO, context_tokens=8).preference(preference_from(row))
    assert refused.value.kind == "nothing_fits"


def test_the_base_is_read_from_its_folder_only(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        Renderer(tmp_path, context_tokens=8)
