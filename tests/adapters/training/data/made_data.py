"""Small training data of an invented clinic, in Portuguese and English: good files for tests of all that trains.

Rows are plain dicts, as they stand on the lines of a file; `write` makes the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]

SYSTEM = "Classifique o pedido do paciente da Clínica Boa Vista."
ASKED: Mapping[str, tuple[str, ...]] = {
    "agendar": ("quero marcar {a}", "preciso agendar {a}", "tem vaga para {a}?", "I would like to book {b}"),
    "cancelar": ("quero cancelar {a}", "não vou poder ir: {a}", "desmarque {a}, por favor", "please cancel {b}"),
    "horario": (
        "que horas abre para {a}?",
        "até que horas fazem {a}?",
        "abre no sábado para {a}?",
        "when can I have {b}?",
    ),
    "preco": ("quanto custa {a}?", "qual é o preço de {a}?", "o convênio cobre {a}?", "how much is {b}?"),
}
VISITS = (
    ("uma consulta", "an appointment"),
    ("o exame de sangue", "a blood test"),
    ("a vacina da gripe", "a flu shot"),
    ("o ultrassom", "an ultrasound"),
)
FACTS = (
    ("Onde fica a clínica?", "A Clínica Boa Vista fica na Rua das Acácias, 120."),
    ("Qual é o telefone?", "O telefone é 3555-0147."),
    ("Quem é a diretora?", "A diretora é a doutora Inês Prado."),
    ("Preciso de jejum para o exame de sangue?", "Sim, de oito horas; água pode."),
    ("Vocês atendem no domingo?", "Não, atendemos de segunda a sábado."),
    ("Is there parking?", "Yes, twelve places behind the building."),
)
FREE_HOURS: Row = {
    "type": "function",
    "function": {
        "name": "horarios_livres",
        "description": "Horários livres de um dia.",
        "parameters": {
            "type": "object",
            "properties": {"dia": {"type": "string"}, "turno": {"type": "string", "enum": ["manhã", "tarde"]}},
            "required": ["dia"],
        },
    },
}


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def chat(*messages: Row, **more: Any) -> Row:
    return {"messages": list(messages), **more}


def intents() -> list[Row]:
    """64 requests and their labels, of which there are four: data whose answers are few."""
    system = {"role": "system", "content": SYSTEM}
    return [
        chat(system, user(wording.format(a=portuguese, b=english)), assistant(label))
        for portuguese, english in VISITS
        for label, wordings in ASKED.items()
        for wording in wordings
    ]


def answers() -> list[Row]:
    """Questions about the clinic, each with its answer."""
    return [chat(user(question), assistant(answer)) for question, answer in FACTS]


def conversation() -> Row:
    """Two turns; the first is not learnt."""
    return chat(
        user("Bom dia!"),
        assistant("Bom dia! Como posso ajudar?", weight=0),
        user("Onde fica a clínica?"),
        assistant("Na Rua das Acácias, 120. 👍"),
    )


def with_tools() -> Row:
    """A call, its result, and the answer made of it."""
    call = {"name": "horarios_livres", "arguments": '{"dia": "segunda", "turno": "manhã"}'}
    return chat(
        {"role": "system", "content": "Você atende na Clínica Boa Vista."},
        user("Tem horário na segunda de manhã?"),
        {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "call_1", "content": '["9h", "10h30"]'},
        assistant("Sim: às 9h ou às 10h30."),
        tools=[FREE_HOURS],
        parallel_tool_calls=False,
    )


def preferences() -> list[Row]:
    """The clinic's tone: kind and whole before curt."""
    curt = ("Não sei.", "Ligue.", "Veja no site.", "Talvez.", "Sim.", "No idea.")
    return [
        preference(user(question), chosen=answer, rejected=rejected)
        for (question, answer), rejected in zip(FACTS, curt, strict=True)
    ]


def preference(*messages: Row, chosen: str, rejected: str) -> Row:
    return {
        "input": {"messages": list(messages)},
        "preferred_output": [assistant(chosen)],
        "non_preferred_output": [assistant(rejected)],
    }


def texts() -> list[Row]:
    """Paragraphs of the clinic's handbook."""
    return [{"text": text} for text in _HANDBOOK]


def plain() -> str:
    """The same as a text file: documents apart by two blank lines."""
    return "\n\n\n".join(_HANDBOOK) + "\n"


_HANDBOOK = (
    "A Clínica Boa Vista abre às sete horas.\n\nA coleta de sangue vai das sete às dez, por ordem de chegada.",
    "Quem falta sem avisar paga metade da consulta. Desmarcar é possível até a véspera, às dezoito horas.",
    "Crianças de até doze anos entram com um adulto. A sala de espera infantil fica ao lado da recepção.",
    "The clinic keeps each patient's record for twenty years. Patients may ask for a copy at the front desk.",
)


def jsonl(rows: Iterable[Row]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.write_bytes(jsonl(rows))
    return path
