"""`make bench`: this server beside stock vLLM on this machine, in turns; prints tables and asserts nothing.

    make bench                      # about a quarter of an hour
    make bench ARGS="--rounds 3 --clients 1,8 --tokens 32 --only throughput"

Both run the demo base with one of its adapters under the same engine flags and environment; both are up all the time,
and one at a time is asked. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench import adapters, loading, report, servers, throughput
from bench.clients import SPIN_SECONDS, Generator
from server.settings import DEMO_DIR

MODEL = "pirate"
# requests of each client in one round, for answers of 32 tokens: a round takes a few seconds
REQUESTS = {1: 10, 8: 4, 32: 2}


def main() -> None:
    """Start both, measure in turns, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--clients", type=_numbers, default=[1, 8, 32], help="1,8,32")
    arguments.add_argument("--tokens", type=_numbers, default=[32, 128], help="tokens of each answer: 32,128")
    arguments.add_argument("--loading-rounds", type=int, default=5)
    arguments.add_argument("--max-rank", type=int, default=64, help="rank that every adapter slot is sized for")
    arguments.add_argument("--free", action="store_true", help="bind nothing but what vLLM binds itself: noisier")
    arguments.add_argument("--only", choices=["throughput", "loading"])
    chosen = arguments.parse_args()
    print(report.machine())
    with tempfile.TemporaryDirectory(prefix="manyhats-bench-") as folder, Generator() as generator:
        both: list[servers.Server] = []
        try:
            cold = _start(both, Path(folder), n_cold=16 * chosen.loading_rounds, max_rank=chosen.max_rank)
            loads = [
                throughput.Load(
                    clients=clients, requests=max(1, REQUESTS.get(clients, 3) * 32 // tokens), max_tokens=tokens
                )
                for tokens in chosen.tokens
                for clients in chosen.clients
            ]
            if not chosen.free:
                for server in both:
                    server.keep_off_worker(psutil.Process(generator.pid))
            _warm(generator, both, loads)
            if chosen.only != "loading":
                print(report.throughput_head())
                for number, load in enumerate(loads):
                    ours, stock = throughput.measure(
                        generator, both, MODEL, load, rounds=chosen.rounds, first_round=1000 * (number + 1)
                    )
                    print(report.throughput_row(load, ours, stock), flush=True)
            if chosen.only != "throughput":
                subjects = [
                    loading.Subject(server=both[0], cold=cold),
                    loading.Subject(server=both[1], cold=cold, load_from=f"{folder}/adapters/"),
                ]
                found = loading.measure(generator, subjects, MODEL, rounds=chosen.loading_rounds, first_round=1)
                print(report.gap_table([server.name for server in both], found))
        finally:
            for server in both:
                server.stop()


def _start(both: list[servers.Server], folder: Path, *, n_cold: int, max_rank: int) -> list[str]:
    roots = folder / "adapters"
    settings = {"MANYHATS_ADAPTER_ROOTS": str(roots), "MANYHATS_MAX_RANK": str(max_rank)}
    cold = adapters.make_copies(n_cold, roots, stem="cold")
    shutil.copytree(DEMO_DIR / "adapters" / MODEL, roots / MODEL)
    both.append(servers.ours(settings, folder=folder))
    both.append(servers.stock(settings, folder=folder, adapters={MODEL: roots / MODEL}))
    for name in cold:
        both[0].call("POST", "/v1/adapters", {"name": name, "source": str(roots / name)})
    return cold


def _warm(generator: Generator, both: Sequence[servers.Server], loads: Sequence[throughput.Load]) -> None:
    """Every load once on each, and then what they use when nobody asks."""
    for number, load in enumerate(loads):
        throughput.measure(generator, both, MODEL, load, rounds=1, first_round=100 + number)
    time.sleep(SPIN_SECONDS)
    before = [server.cpu_seconds() for server in both]
    time.sleep(5)
    for server, used in zip(both, before, strict=True):
        print(report.memory_line(server.name, server.ready_seconds, server.memory()))
        print(f"{server.name}: {(server.cpu_seconds() - used) / 5:.1%} of a core when nobody asks")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
