"""How long a training file is in tokens: exact while time allows, else estimated from examples all over it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.training.data.chat import Chat
from adapters.training.data.preference import Preference
from adapters.training.data.reading import Example, Examples
from adapters.training.data.rendering import Renderer
from adapters.training.method import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of the examples as they are trained once, cut to the context; a preference's prompt counts with each answer."""

    n_examples: int  # always exact
    n_tokens: int
    n_trained_tokens: int  # of those that the loss is taken over
    is_estimate: bool  # tokens and cuts, not examples
    n_cut: int  # examples that do not fit the context whole


def count(
    path: Path, kind: Kind, renderer: Renderer, *, seconds: float = 2.0, clock: Callable[[], float] = time.monotonic
) -> Counts:
    """Counts a file, in about the given time; at least one example is rendered.

    Raises DataInvalid as `read` and rendering do, for the examples that are looked at.
    """
    examples = Examples(path, kind)
    ends = clock() + seconds
    n_seen = n_bytes = n_tokens = n_trained = n_cut = 0
    for place in _spread(len(examples)):
        tokens, trained, cut = _lengths(examples[place], renderer)
        n_seen += 1
        n_bytes += examples.n_bytes(place)
        n_tokens, n_trained, n_cut = n_tokens + tokens, n_trained + trained, n_cut + (cut > 0)
        if clock() >= ends:
            break
    if n_seen == len(examples):
        return Counts(n_examples=n_seen, n_tokens=n_tokens, n_trained_tokens=n_trained, is_estimate=False, n_cut=n_cut)
    # tokens go with bytes: closer than so many for each example, whose lengths differ more
    share = sum(examples.n_bytes(place) for place in range(len(examples))) / n_bytes
    return Counts(
        n_examples=len(examples),
        n_tokens=round(n_tokens * share),
        n_trained_tokens=round(n_trained * share),
        is_estimate=True,
        n_cut=round(n_cut * len(examples) / n_seen),
    )


def _lengths(example: Example, renderer: Renderer) -> tuple[int, int, int]:
    """(tokens, trained tokens, tokens cut) of one example."""
    match example:
        case Chat():
            rendered = renderer.chat(example)
            return len(rendered.tokens), rendered.n_trained, rendered.cut
        case Preference():
            pair = renderer.preference(example)
            n_trained = len(pair.chosen) + len(pair.rejected)
            return 2 * len(pair.prompt) + n_trained, n_trained, pair.cut
        case _:
            rendered = renderer.text(example)
            return len(rendered.tokens), rendered.n_trained, rendered.cut


def _spread(n: int) -> Iterator[int]:
    """Each of 0 … n-1 once, so that also the first few lie evenly: steps of the golden ratio of n."""
    step = max(1, round(n * 0.6180339887))
    while math.gcd(step, n) != 1:
        step += 1
    return (i * step % n for i in range(n))
