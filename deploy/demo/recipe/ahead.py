"""Batches that another process draws while the model learns from the last: drawing takes a fifth of a step's time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from .folder import DataFolder
from .lessons import Lessons
from .packing import Batch, batch

ROWS, ROW_TOKENS, PASSES = 3, 704, 2  # of a step


@dataclass(frozen=True)
class _Wish:
    step: int
    level: int
    talk_share: float


class Ahead:
    """Gives a step's batches, and begins with those of the next as they will be wished for if nothing changes."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._begun: dict[_Wish, Future[list[Batch]]] = {}

    def of_step(self, step: int, level: int, talk_share: float) -> list[Batch]:
        """The same for the same arguments."""
        wish = _Wish(step, level, talk_share)
        begun = self._begun.pop(wish, None) or self._pool.submit(_draw, wish)
        self._begun.clear()  # a level or a share has changed
        following = _Wish(step + 1, level, talk_share)
        self._begun[following] = self._pool.submit(_draw, following)
        return begun.result()


@contextmanager
def drawing(data: DataFolder, tokenizer: PreTrainedTokenizerFast) -> Iterator[Ahead]:
    """The process lives as long as the block."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(data, tokenizer)) as pool:
        yield Ahead(pool)


_lessons: Lessons


def _begin(data: DataFolder, tokenizer: PreTrainedTokenizerFast) -> None:
    global _lessons
    torch.set_num_threads(1)
    _lessons = Lessons(data, tokenizer)


def _draw(wish: _Wish) -> list[Batch]:
    texts = _lessons.of_step(wish.step, wish.level, wish.talk_share)
    return [batch(texts, rows=ROWS, length=ROW_TOKENS) for _ in range(PASSES)]
