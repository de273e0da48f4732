"""The examples of a file as rows of tokens, ready for the trainers. Only the training child imports this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import pack_dataset

from adapters.training.data.chat import Chat
from adapters.training.data.counting import Counts
from adapters.training.data.preference import Preference
from adapters.training.data.reading import read
from adapters.training.data.rendering import Rendered, RenderedPair, Renderer
from adapters.training.data.text import Text
from adapters.training.errors import DataInvalid
from adapters.training.method import Kind
from adapters.training.plan import text_row_tokens

IGNORED = -100  # a label that the loss leaves out
WHOLE = 1 << 30  # texts are cut into rows here, so nothing of them has to be cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The columns that trl expects of prepared data, and how long the rows are."""

    data: Dataset  # input_ids and labels (and seq_lengths where packed), or prompt_ids, chosen_ids and rejected_ids
    lengths: Sequence[int]  # tokens of each row; of preferences, of both answers with their prompts
    counts: Counts

    def __len__(self) -> int:
        return len(self.lengths)


def rows_of(path: Path, kind: Kind, base: Path, *, context_tokens: int, most: int | None = None) -> Rows:
    """The file's examples, rendered by the base's template; `most`: an evenly spread choice of so many at most.

    Raises DataInvalid when no example has anything to train on.
    """
    examples = _spread(read(path, kind), most)
    if kind == "continued_pretraining":
        return _texts(Renderer(base, context_tokens=WHOLE), examples, text_row_tokens(context_tokens))
    renderer = Renderer(base, context_tokens=context_tokens)
    if kind == "dpo":
        return _pairs([renderer.preference(example) for example in examples if isinstance(example, Preference)])
    return _chats([renderer.chat(example) for example in examples if isinstance(example, Chat)])


def packed(rows: Rows, row_tokens: int) -> Rows:
    """Several texts to a row of at most `row_tokens`; `seq_lengths` says where each begins."""
    data = pack_dataset(rows.data, row_tokens, "bfd")
    return Rows(data=data, lengths=[len(row) for row in data["input_ids"]], counts=rows.counts)


def labels(rendered: Rendered) -> list[int]:
    return [
        token if is_trained else IGNORED for token, is_trained in zip(rendered.tokens, rendered.trained, strict=True)
    ]


def _spread(examples: Sequence[Any], most: int | None) -> Sequence[Any]:
    if most is None or len(examples) <= most:
        return examples
    return [examples[number * len(examples) // most] for number in range(most)]


def _chats(rendered: Sequence[Rendered]) -> Rows:
    # the first token is never predicted, so an example that trains only that one trains nothing
    usable = [one for one in rendered if any(one.trained[1:])]
    if not usable:
        raise DataInvalid(
            "nothing_to_train", 0, "in no example does an assistant's turn begin within the base's context"
        )
    return Rows(
        data=Dataset.from_dict(
            {"input_ids": [one.tokens for one in usable], "labels": [labels(one) for one in usable]}
        ),
        lengths=[len(one.tokens) for one in usable],
        counts=_counts(usable),
    )


def _texts(renderer: Renderer, examples: Sequence[Any], row_tokens: int) -> Rows:
    rendered = [renderer.text(example) for example in examples if isinstance(example, Text)]
    pieces = [piece for one in rendered for piece in _pieces(one.tokens, row_tokens)]
    return Rows(
        data=Dataset.from_dict({"input_ids": pieces, "labels": pieces}),
        lengths=[len(piece) for piece in pieces],
        counts=_counts(rendered),
    )


def _pieces(tokens: Sequence[int], row_tokens: int) -> Iterator[list[int]]:
    """Of even length, so that no text ends with a piece of few tokens that nothing stands before."""
    n_pieces = max(1, -(-len(tokens) // row_tokens))
    bounds = [number * len(tokens) // n_pieces for number in range(n_pieces + 1)]
    for start, end in pairwise(bounds):
        yield list(tokens[start:end])


def _pairs(pairs: Sequence[RenderedPair]) -> Rows:
    usable = [pair for pair in pairs if pair.prompt and pair.chosen and pair.rejected]
    if not usable:
        raise DataInvalid("nothing_to_train", 0, "no example has room for its answers within the base's context")
    lengths = [2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in usable]
    return Rows(
        data=Dataset.from_dict(
            {
                "prompt_ids": [pair.prompt for pair in usable],
                "chosen_ids": [pair.chosen for pair in usable],
                "rejected_ids": [pair.rejected for pair in usable],
            }
        ),
        lengths=lengths,
        counts=Counts(
            n_examples=len(usable),
            n_tokens=sum(lengths),
            n_trained_tokens=sum(len(pair.chosen) + len(pair.rejected) for pair in usable),
            is_estimate=False,
            n_cut=0,
        ),
    )


def _counts(rendered: Sequence[Rendered]) -> Counts:
    return Counts(
        n_examples=len(rendered),
        n_tokens=sum(len(one.tokens) for one in rendered),
        n_trained_tokens=sum(sum(one.trained) for one in rendered),
        is_estimate=False,
        n_cut=sum(one.cut > 0 for one in rendered),
    )
