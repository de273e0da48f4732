"""Streaming clients on one adapter: this server beside stock vLLM, in turns, so that both see the same machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from bench.clients import Generator, Job, Result
from bench.servers import Server

SUBJECTS = ("rivers", "bread", "the moon", "winter", "libraries", "trains", "bees", "salt", "glass", "maps", "wool")
ASKED = (
    "Question {n}: what should I know about {subject}, and where would I begin?",
    "Number {n}. Tell me about {subject}.",
    "{n}: my neighbour asked me why {subject} matter to people, and I had no answer. What do I say?",
    "Please explain {subject} to a child, example {n}.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many clients, each asking so often for so many tokens."""

    clients: int
    requests: int  # of each client
    max_tokens: int
    fields: Mapping[str, Any] = field(default_factory=dict)  # further ones of each question's body


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One load on one server, over all rounds; times in seconds."""

    tokens_per_second: list[float]  # one per round
    first_tokens: list[float]  # one per request

    @property
    def rate(self) -> float:
        """Median of the rounds."""
        return median(self.tokens_per_second)

    @property
    def first_median(self) -> float:
        """Median over all requests."""
        return median(self.first_tokens)

    @property
    def first_p90(self) -> float:
        """The time within which nine of ten requests had their first token."""
        return quantiles(self.first_tokens, n=10)[-1]


def measure(
    generator: Generator, servers: Sequence[Server], model: str, load: Load, *, rounds: int, first_round: int
) -> list[Figures]:
    """In each round each server in turn, who was first is second in the next; the figures in the servers' order."""
    figures = [Figures(tokens_per_second=[], first_tokens=[]) for _ in servers]
    for number in range(rounds):
        asked = prompts(load, first_round + number)
        order = range(len(servers)) if number % 2 == 0 else reversed(range(len(servers)))
        for which in order:
            result = generator.run(
                Job(
                    port=servers[which].port,
                    model=model,
                    prompts=asked,
                    max_tokens=load.max_tokens,
                    fields=load.fields,
                )
            )
            check(result, load)
            figures[which].tokens_per_second.append(result.tokens / result.wall)
            figures[which].first_tokens.extend(result.first_tokens)
    return figures


def prompts(load: Load, round_number: int) -> list[list[str]]:
    """Different in each round and for each client, so that no answer comes from what was cached; equal for servers."""

    def prompt(client: int, number: int) -> str:
        n = (round_number * load.clients + client) * load.requests + number
        return ASKED[n % len(ASKED)].format(n=n, subject=SUBJECTS[n % len(SUBJECTS)])

    return [[prompt(client, number) for number in range(load.requests)] for client in range(load.clients)]


def check(result: Result, load: Load) -> None:
    """A server that answers less than it was asked for would look fast; raises RuntimeError."""
    wanted = load.clients * load.requests * load.max_tokens
    if result.tokens != wanted:
        raise RuntimeError(f"{result.tokens} tokens came where {wanted} were asked for")
