"""What other streams notice while cold adapters load: the largest gap between two of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import median, quantiles

from bench.clients import Generator, Job
from bench.servers import Server
from bench.throughput import Load, check, prompts

STREAMS = Load(clients=4, requests=1, max_tokens=700)
KINDS = ("streams alone", "a warm adapter asked beside", "cold adapters asked beside")
WITHOUT_LOADING = KINDS[1]
COLD_EVERY = 0.5  # seconds


@dataclass(slots=True, kw_only=True)
class Gaps:
    """Over all rounds, in seconds."""

    largest: list[float] = field(default_factory=list)  # one per round
    normal: list[float] = field(default_factory=list)  # median gap, one per round
    p99: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)  # how long each question beside took, its load included

    @property
    def summary(self) -> tuple[float, float, float, float]:
        """Medians of the rounds: (median gap, p99, largest), and the worst round's largest."""
        return median(self.normal), median(self.p99), median(self.largest), max(self.largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server with names that are registered and not in its memory."""

    server: Server
    cold: Sequence[str]
    load_from: str = ""  # stock vLLM loads by request: from here


def measure(
    generator: Generator, subjects: Sequence[Subject], model: str, *, rounds: int, first_round: int
) -> list[dict[str, Gaps]]:
    """Each kind on each server in turn; by kind, in the servers' order."""
    found = [{kind: Gaps() for kind in KINDS} for _ in subjects]
    names = [cycle(subject.cold) for subject in subjects]
    for number in range(rounds):
        for place, kind in enumerate(KINDS):
            order = range(len(subjects)) if number % 2 == 0 else reversed(range(len(subjects)))
            for which in order:
                subject = subjects[which]
                beside: list[str] = []
                if kind == KINDS[1]:
                    beside = [model] * 16
                elif kind == KINDS[2]:
                    beside = list(islice(names[which], 16))
                job = Job(
                    port=subject.server.port,
                    model=model,
                    prompts=prompts(STREAMS, first_round + number * len(KINDS) + place),
                    max_tokens=STREAMS.max_tokens,
                    cold=beside,
                    cold_every=COLD_EVERY,
                    load_from=subject.load_from if kind == KINDS[2] else "",
                )
                result = generator.run(job)
                check(result, STREAMS)
                gaps = found[which][kind]
                gaps.largest.append(max(result.gaps))
                gaps.normal.append(median(result.gaps))
                gaps.p99.append(quantiles(result.gaps, n=100)[-1])
                gaps.asked.extend(result.cold_seconds)
    return found
