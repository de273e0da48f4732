"""`make bench-shared`: this server over PostgreSQL and a bucket beside itself over SQLite and a folder.

    make bench-shared                               # 25 minutes on two cores
    make bench-shared ARGS="--rounds 1"
    make bench-shared ARGS="--only statements"      # counts, the same on a busy machine

PostgreSQL and an S3 server (moto) are started for it, on this machine; the package postgresql must be there. Both
servers are up all the time and one at a time is asked; who is first in one round is second in the next. Prints tables,
asserts nothing. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from adapters.base_model import BaseModel
from bench import adapters, report
from bench.clients import Generator
from bench.shared import parts, places, samples, statements
from bench.shared.parts import Part, Round
from bench.shared.running import Running, make_adapters
from bench.shared.turns import take_turns
from retrieval.embedding import Embedder
from server.settings import DEMO_BASE
from tests.postgresql import why_missing

NOT_MEASURED = """\
Not measured: a network between server, database and bucket (all are on this machine, so a statement takes some 0.1 ms
where it takes 0.5 to 1 ms between machines); a real object store (moto is Python, and opens a connection for each
request); several replicas and what they do at once (make prove ARGS=tests/prove/test_replicas.py); restarts, training,
and stores of more than some hundred chunks, whose indexes are the same over both (make bench-retrieval)."""

Say = Callable[[str], None]
T = TypeVar("T")


def main() -> int:
    """Count, start both, measure in turns, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3, help="fewer when the time is up")
    arguments.add_argument("--minutes", type=float, default=25, help="of the whole run; there is one round at least")
    arguments.add_argument("--only", choices=["statements", "times"])
    arguments.add_argument("--engine", choices=["vllm", "fake"], default="vllm", help="fake: a script, without chat")
    chosen = arguments.parse_args()
    ends_at = time.monotonic() + 60 * chosen.minutes
    if missing := why_missing():
        print(missing, file=sys.stderr)
        return 1
    say = partial(print, flush=True)
    say(report.machine())
    with tempfile.TemporaryDirectory(prefix="manyhats-bench-") as name:
        if chosen.only != "times":
            count_statements(Path(name) / "counted", say)
        if chosen.only != "statements":
            measure(Path(name) / "timed", chosen.engine, n_rounds=chosen.rounds, ends_at=ends_at, say=say)
            say(f"\n{NOT_MEASURED}")
    return 0


def count_statements(folder: Path, say: Say) -> None:
    """What one request costs the database and the bucket; nothing of it depends on how fast the machine is."""
    roots = folder / "adapters"
    names = adapters.make_copies(statements.archives_needed(), roots)
    archives = [adapters.archive(roots / name) for name in names]
    base = replace(BaseModel.read(DEMO_BASE, cache=folder / "base"), name="demo")
    embedder = Embedder(cache=folder / "embedder")
    with places.shared(folder, told=True) as other:
        both = [places.embedded(), other]
        found = [
            asyncio.run(statements.count(place, folder / f"{number}", base=base, embedder=embedder, archives=archives))
            for number, place in enumerate(both)
        ]
    say(f"\n{statements.table(both, found)}")


def measure(folder: Path, engine: str, *, n_rounds: int, ends_at: float, say: Say) -> None:
    """Both in turns until all rounds are over, or `ends_at`; what the parts found is a table."""
    roots = folder / "adapters"
    moved, uploads, cold = make_adapters(roots, n_rounds + 1, each=parts.ADAPTERS)
    with ExitStack() as stack:
        generator = stack.enter_context(Generator())
        both: list[Running] = []
        for place in (places.embedded(), stack.enter_context(places.shared(folder))):
            running = Running.start(place, folder / f"{len(both)}", roots=roots, engine=engine)
            stack.callback(running.stop)
            both.append(running)
            running.prepare(roots, moved, cold)
            say(f"{place.name}: ready after {running.server.ready_seconds:.1f} s")
        if engine != "fake":
            for running in both:
                running.server.keep_off_worker(psutil.Process(generator.pid))
        rounds = [
            Round(number=number - 1, uploads=some, cold=names)
            for number, (some, names) in enumerate(
                zip(_split(uploads, parts.ADAPTERS), _split(cold, parts.ADAPTERS), strict=True)
            )
        ]
        asked: list[Part] = [parts.uploaded, parts.cold, parts.ingestion, parts.search, parts.changes]
        if engine != "fake":
            asked.insert(0, parts.chatting(generator))
        say("one round to warm up")
        take_turns(asked, both, rounds[:1], told=say)
        for running in both:
            running.samples = samples.Samples()  # what was for warming up
        n_done = take_turns(asked, both, rounds[1:], ends_at=ends_at, told=say)
        take_turns([parts.keys], both, rounds[1 : 1 + n_done])  # the last: afterwards a key is needed
        say(f"\n{n_done} of {n_rounds} rounds{'' if n_done == n_rounds else '; then the time was up'}\n")
        say(samples.table([running.place.name for running in both], [running.samples for running in both]))


def _split(values: Sequence[T], each: int) -> list[Sequence[T]]:
    return [values[start : start + each] for start in range(0, len(values), each)]


if __name__ == "__main__":
    sys.exit(main())
