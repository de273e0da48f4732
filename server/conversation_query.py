"""What to search for, from a conversation: the last user turn decides.

A follow-up ("and in Lisbon?", "E se ela não pagar?") says too little by itself, so the content words of the user's
turns before it stand in front. That is deterministic and costs nothing; rewriting by the model is an option, and falls
back to this.
"""

from __future__ import annotations

import asyncio
import logging
import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from adapters.errors import AdapterError
from server.assistants import Plan
from server.conversation_words import (
    CLOSE,
    LONG,
    OPENERS,
    OPENING_PAIRS,
    POINTING_ENDS,
    PRONOUNS,
    REFERRING,
    STOPWORDS,
)
from server.engine.base import Call, EngineAdapter, EngineError
from server.services import Services
from server.turns import Turn

logger = logging.getLogger(__name__)

LONGEST_QUERY = 1000  # characters; an embedder sees a few hundred tokens
EARLIER_TURNS = 3
EARLIER_WORDS = 24
LONGEST_WORD = 40  # characters; what is longer is an address, a key or encoded data, and nothing is found by it

REWRITTEN_TURNS = 6
REWRITTEN_CHARACTERS = 600  # of each turn
REWRITE_TOKENS = 64
REWRITE_SECONDS = 10.0
REWRITE = (
    "Below is a conversation. Rewrite its last user message as one search query that can be understood without the "
    "conversation. Keep its language. Answer with the query only.\n\n{conversation}\n\nQuery:"
)


def query_of(turns: Sequence[Turn]) -> str:
    """The question to search for, at most 1,000 characters; "" where no user turn has words.

    The last user turn is whole in it, but for the middle of one that is longer by itself; words of earlier turns take
    what room is left. turns: in their order, without few-shot examples.
    """
    said = [turn.text for turn in turns if turn.role == "user"]
    if not said:
        return ""
    query = _ends(said[-1])
    earlier: list[str] = []
    needs_more = is_follow_up(said[-1])
    for text in reversed(said[:-1][-EARLIER_TURNS:]):
        if not needs_more:
            break
        known = {_plain(word) for word in [*_words(query), *earlier]}
        own = [word for word in content_words(text) if len(word) <= LONGEST_WORD and _plain(word) not in known]
        earlier = [*own, *earlier][:EARLIER_WORDS]
        needs_more = is_follow_up(text)
    return " ".join([*_fitting(earlier, LONGEST_QUERY - len(query)), query])


def is_follow_up(text: str) -> bool:
    """Whether a turn says too little to be understood alone; told by its words, in English and Portuguese."""
    words = [word.casefold() for word in _words(text)]
    content = [word for word in words if _plain(word) not in STOPWORDS]
    if len(content) <= CLOSE:
        return True
    if len(content) > REFERRING or len(words) > LONG:
        return False
    opens = words[0] in OPENERS or tuple(words[:2]) in OPENING_PAIRS
    return opens or any(word in PRONOUNS or word.endswith(POINTING_ENDS) for word in words)


def content_words(text: str) -> list[str]:
    """The words that carry meaning, each once, in their order."""
    kept = {_plain(word): word for word in reversed(_words(text)) if _plain(word) not in STOPWORDS}
    return list(reversed(kept.values()))


async def rewritten(turns: Sequence[Turn], plan: Plan, services: Services, *, request_id: str) -> str | None:
    """The same question as the model itself would ask it; None where there is nothing before it, or it fails.

    One greedy answer of at most 64 tokens and 10 seconds, by the adapter that the request is for.
    """
    if len(turns) < 2:
        return None
    lines = [f"{turn.role}: {_ends(turn.text, REWRITTEN_CHARACTERS)}" for turn in turns[-REWRITTEN_TURNS:]]
    asked = REWRITE.format(conversation="\n".join(lines))
    try:
        async with asyncio.timeout(REWRITE_SECONDS):
            if plan.version is None:
                answer = await _answered(asked, plan, None, services, request_id)
            else:
                async with services.slots.hold(plan.version) as adapter:
                    answer = await _answered(asked, plan, adapter, services, request_id)
    except (EngineError, AdapterError, TimeoutError) as error:
        logger.warning("a question was not rewritten: %r", error)
        return None
    return _first_line(answer) or None


async def _answered(asked: str, plan: Plan, adapter: EngineAdapter | None, services: Services, request_id: str) -> str:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": asked}],
        "max_tokens": REWRITE_TOKENS,
        "temperature": 0,
    }
    call = Call(
        dialect="chat", body=body, public_name=plan.public_name, request_id=f"{request_id}-query", adapter=adapter
    )
    answer = await services.engine.answer(call)
    choices = (answer.body or {}).get("choices") or [{}]
    content = (choices[0].get("message") or {}).get("content")
    return content if isinstance(content, str) else ""


def _first_line(answer: str) -> str:
    """What was said first, behind what a reasoning model thought; nothing where it was still thinking."""
    said = answer.rpartition("</think>")[2]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines or "<think>" in said:
        return ""
    return lines[0].removeprefix("Query:").strip(" \"'“”")[:LONGEST_QUERY]


def _ends(text: str, longest: int = LONGEST_QUERY) -> str:
    """A text, or the beginning and the end of a long one: that is where people ask."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    half = longest // 2 - 1
    return f"{text[:half].rpartition(' ')[0] or text[:half]} {text[-half:].partition(' ')[2] or text[-half:]}"


def _fitting(words: Sequence[str], room: int) -> list[str]:
    """The first words that fit into this many characters, with a blank behind each."""
    lengths = accumulate(len(word) + 1 for word in words)
    return [word for word, length in zip(words, lengths, strict=True) if length <= room]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:[-'’./]\w+)*", text)


def _plain(word: str) -> str:
    """Without case and accents, as the lists of words are written."""
    decomposed = unicodedata.normalize("NFKD", word.casefold().replace("’", "'"))
    return "".join(char for char in decomposed if not unicodedata.combining(char))
