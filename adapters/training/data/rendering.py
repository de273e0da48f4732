"""Examples as the tokens that serving would see, and which of them are learnt.

Serving renders the conversation so far by the base's chat template, with the generation prompt, and splits the string
into tokens; the model then writes its answer and the token that ends its turn. Most templates do not mark what is the
assistant's, so its turns are found by rendering what came before each: that must be the beginning of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.training.data.chat import Chat, is_trained
from adapters.training.data.messages import Message
from adapters.training.data.preference import Preference
from adapters.training.data.template import Template
from adapters.training.data.text import Text
from adapters.training.data.tools import Tool
from adapters.training.errors import DataInvalid


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example in tokens."""

    tokens: list[int]
    trained: list[bool]  # as long as tokens: whether the loss is taken over it
    cut: int = 0  # tokens beyond the context, left out
    only_last: bool = False  # the template rewrites earlier turns, so that only the last answer could be marked

    @property
    def n_trained(self) -> int:
        return sum(self.trained)


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """A prompt and two answers to it, in tokens; each answer ends with the token that ends a turn."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    cut: int = 0  # tokens of both answers beyond the context, left out


class Renderer:
    """Renders the examples for one base. Making it loads the tokenizer, which takes seconds for the first one."""

    def __init__(self, base: Path, *, context_tokens: int) -> None:
        """base: a folder as transformers saves it."""
        self._template = Template(base)
        self._context_tokens = context_tokens

    def chat(self, chat: Chat) -> Rendered:
        """The conversation up to the end of the last turn that is learnt.

        Raises DataInvalid: not_rendered, nothing_fits.
        """
        last = max(i for i, message in enumerate(chat.messages) if is_trained(message))
        messages = chat.messages[: last + 1]
        spans = self._spans(messages, chat.tools, chat.line)
        if spans is None:
            prompt, answer = self._last_turn(messages, chat.tools, chat.line)
            return self._fitted(prompt + answer, [(len(prompt), len(prompt) + len(answer))], chat.line, only_last=True)
        tokens, borders = self._tokens(self._template.render(messages, chat.tools, line=chat.line), spans)
        turns = [(start, start + len(self._template.ended(tokens[start:end]))) for start, end in borders[:-1]]
        start, end = borders[-1]
        answer = self._whole_turn(tokens[start:end])
        turns.append((start, start + len(answer)))
        return self._fitted(tokens[:start] + answer, turns, chat.line, n_unread=len(tokens) - end)

    def text(self, text: Text) -> Rendered:
        """The whole text, all of it learnt, and the token that ends a text; whoever trains cuts it into windows."""
        tokens = [*self._template.document(text.text), self._template.end_of_text]
        return Rendered(tokens, [True] * len(tokens))

    def preference(self, preference: Preference) -> RenderedPair:
        """Raises DataInvalid: not_rendered, nothing_fits, equal_outputs (when they are equal in tokens)."""
        line = preference.line
        (prompt, chosen), (other, rejected) = (
            self._last_turn((*preference.prompt, *output), preference.tools, line)
            for output in (preference.chosen, preference.rejected)
        )
        assert prompt == other
        room = self._context_tokens - len(prompt)
        if room < 1:
            raise self._nothing_fits(len(prompt), line)
        cut = max(0, len(chosen) - room) + max(0, len(rejected) - room)
        chosen, rejected = chosen[:room], rejected[:room]
        if chosen == rejected:
            raise DataInvalid("equal_outputs", line, "both outputs are the same once rendered and cut to the context")
        return RenderedPair(prompt, chosen, rejected, cut)

    def _spans(self, messages: tuple[Message, ...], tools: tuple[Tool, ...], line: int) -> list[tuple[int, int]] | None:
        """(start, end) of the learnt turns in the rendered string, up to the first one that begins beyond the context.

        None where the template rewrites earlier turns.
        """
        whole = self._template.render(messages, tools, line=line)
        reach = self._template.length(whole, n_tokens=self._context_tokens)
        spans: list[tuple[int, int]] = []
        for i, message in enumerate(messages):
            if not is_trained(message):
                continue
            before = self._template.render(messages[:i], tools, line=line, asks=True)
            upto = whole if i == len(messages) - 1 else self._template.render(messages[: i + 1], tools, line=line)
            if not (whole.startswith(before) and whole.startswith(upto) and len(before) < len(upto)):
                return None
            spans.append((len(before), len(upto)))
            if len(before) > reach:
                break
        return spans

    def _tokens(self, whole: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """The string in tokens, and the spans' (start, end) in these; a token never reaches over a turn's start."""
        tokens = self._template.split(whole)
        borders = []
        for start, end in spans:
            before, upto = self._template.split(whole[:start]), self._template.split(whole[:end])
            if tokens[: len(before)] != before or tokens[: len(upto)] != upto:
                return self._pieces(whole, spans)
            borders.append((len(before), len(upto)))
        return tokens, borders

    def _pieces(self, whole: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """As `_tokens`, split apart at each border: for tokens that would hold a prompt's end and an answer's start."""
        tokens: list[int] = []
        borders = []
        done = 0
        for start, end in spans:
            tokens += self._template.split(whole[done:start])
            first = len(tokens)
            tokens += self._template.split(whole[start:end])
            borders.append((first, len(tokens)))
            done = end
        return tokens, borders

    def _last_turn(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], line: int
    ) -> tuple[list[int], list[int]]:
        """(what serving would give, what shall follow) in tokens, for the last message, which is the assistant's."""
        asked = self._template.render(messages[:-1], tools, line=line, asks=True)
        whole = self._template.render(messages, tools, line=line)
        prompt = self._template.split(asked)
        tokens = self._template.split(whole)
        if tokens[: len(prompt)] == prompt and whole.startswith(asked):
            answer = tokens[len(prompt) :]
        else:
            answer = self._template.split(whole[self._start(messages, tools, asked, whole, line) :])
        return prompt, self._whole_turn(answer)

    def _whole_turn(self, answer: list[int]) -> list[int]:
        """A turn with the token that ends it: where a template writes none, the model would never learn to stop."""
        answer = self._template.ended(answer)
        return answer if self._template.is_ended(answer) else [*answer, self._template.stop]

    def _start(self, messages: tuple[Message, ...], tools: tuple[Tool, ...], asked: str, whole: str, line: int) -> int:
        """Where the answer begins in the rendered string, though a token reaches over that place, or though the
        generation prompt opens what a finished turn has not, such as <think>."""
        if whole.startswith(asked):
            return len(asked)
        history = self._template.render(messages[:-1], tools, line=line)
        one, other = (
            self._template.render((*messages[:-1], {"role": "assistant", "content": word}), tools, line=line)
            for word in ("A", "B")
        )
        differs = (i for i, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
        opening = one[: next(differs, len(one))]
        if not (whole.startswith(opening) and opening.startswith(history.rstrip())):
            raise DataInvalid(
                "not_rendered",
                line,
                "the base's chat template renders what stands before the answer in another way once it is there; "
                "this conversation cannot be trained on this base",
            )
        return len(opening)

    def _fitted(
        self,
        tokens: list[int],
        turns: Sequence[tuple[int, int]],
        line: int,
        *,
        only_last: bool = False,
        n_unread: int = 0,
    ) -> Rendered:
        """n_unread: tokens of turns beyond the context, which are not in `tokens`."""
        if turns[0][0] >= self._context_tokens:
            raise self._nothing_fits(turns[0][0], line)
        trained = [False] * len(tokens)
        for start, end in turns:
            trained[start:end] = [True] * (end - start)
        cut = max(0, len(tokens) - self._context_tokens)
        n_kept = len(tokens) - cut
        return Rendered(tokens[:n_kept], trained[:n_kept], cut + n_unread, only_last)

    def _nothing_fits(self, n_tokens: int, line: int) -> DataInvalid:
        return DataInvalid(
            "nothing_fits",
            line,
            f"{n_tokens} tokens stand before the first answer, the context has {self._context_tokens}; shorten them",
        )
