from __future__ import annotations

from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.conftest import preference_from
from tests.adapters.training.data.made_data import assistant, chat, user


def test_a_pair_is_read_as_it_was_written() -> None:
    read = preference_from(made.preferences()[0])
    assert read.prompt == (user("Onde fica a clínica?"),)
    assert read.chosen == (assistant("A Clínica Boa Vista fica na Rua das Acácias, 120."),)
    assert read.rejected == (assistant("Não sei."),)
    assert (read.tools, read.line) == ((), 1)


def test_an_answer_may_be_a_call() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "horarios_livres", "arguments": '{"dia": "terça"}'}}
    row = {
        "input": chat(user("Tem vaga na terça?"), tools=[made.FREE_HOURS], parallel_tool_calls=True),
        "preferred_output": [{"role": "assistant", "tool_calls": [call]}],
        "non_preferred_output": [assistant("Não sei.")],
    }
    read = preference_from(row)
    assert read.tools == (made.FREE_HOURS,)
    assert read.chosen[0]["tool_calls"] == [call]
