"""What soft prompts cost: this server with them switched on beside itself without; prints a table, asserts nothing.

    python -m bench.prompt_tuning                       # about ten minutes on a machine that does nothing else
    python -m bench.prompt_tuning --rounds 4 --clients 1

"off" and "on" are asked for the base's answers, so the difference is what everybody pays; "on, soft" for those of a
soft prompt of 32 virtual tokens. Who is first in one round is last in the next.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from safetensors.numpy import save_file

from bench import report, servers, throughput
from bench.clients import Generator
from server.settings import DEMO_BASE

NAME = "soft"
N_VIRTUAL_TOKENS = 32
REQUESTS = {1: 10, 8: 4}  # of each client in one round
N_TOKENS = 32


def main() -> None:
    """Start both, measure in turns, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--clients", type=lambda text: [int(part) for part in text.split(",")], default=[1, 8])
    chosen = arguments.parse_args()
    print(report.machine())
    with tempfile.TemporaryDirectory(prefix="manyhats-bench-") as name, Generator() as generator:
        folder, both = Path(name), list[servers.Server]()
        _make_prompt(folder / "adapters" / NAME)
        settings = {
            "MANYHATS_ADAPTER_ROOTS": str(folder / "adapters"),
            "MANYHATS_INGESTION": "false",
            "MANYHATS_TRAINING": "false",
        }
        try:
            both.append(servers.ours(settings, folder=folder / "off"))
            both.append(servers.ours({**settings, "MANYHATS_PROMPT_TUNING": "true"}, folder=folder / "on"))
            both[1].call("POST", "/v1/adapters", {"name": NAME, "source": str(folder / "adapters" / NAME)})
            for server in both:
                server.keep_off_worker(psutil.Process(generator.pid))
            print(f"{'clients':>7} | asked for  | tokens/s | first token, median ms | worker's CPU, ms per token")
            asked = {"off": (both[0], "demo"), "on": (both[1], "demo"), "on, soft": (both[1], NAME)}
            for number, clients in enumerate(chosen.clients):
                for label, told in _measure(generator, asked, clients, chosen.rounds, 1000 * (number + 1)).items():
                    print(f"{clients:7} | {label:10} | {told}", flush=True)
        finally:
            for server in both:
                server.stop()


def _measure(
    generator: Generator, asked: Mapping[str, tuple[servers.Server, str]], clients: int, rounds: int, first_round: int
) -> dict[str, str]:
    """Each of `asked` in turn in each round, whose first becomes its last; what is told of each."""
    load = throughput.Load(clients=clients, requests=REQUESTS.get(clients, 3), max_tokens=N_TOKENS)
    found: dict[str, list[tuple[throughput.Figures, float]]] = {label: [] for label in asked}
    for number in range(rounds + 1):
        for label in list(asked) if number % 2 else reversed(asked):
            server, model = asked[label]
            before = _worker_seconds(server)
            (figures,) = throughput.measure(
                generator, [server], model, load, rounds=1, first_round=first_round + number
            )
            used = (_worker_seconds(server) - before) / (load.clients * load.requests * load.max_tokens)
            if number:  # the first is to warm up
                found[label].append((figures, used * 1e3))
    return {label: _told(one) for label, one in found.items()}


def _told(found: Sequence[tuple[throughput.Figures, float]]) -> str:
    first = [seconds for figures, _ in found for seconds in figures.first_tokens]
    used = [each for _, each in found]
    rates = [figures.rate for figures, _ in found]
    return (
        f"{median(rates):8.1f} | {median(first) * 1e3:22.1f} | {median(used):6.2f} ({min(used):.2f} to {max(used):.2f})"
    )


def _worker_seconds(server: servers.Server) -> float:
    """What the process with the model has computed so far: other work on the machine changes it less than the time."""
    return sum(server.processes()["worker"].cpu_times()[:2])


def _make_prompt(folder: Path) -> None:
    """A soft prompt of the size of the base's own token vectors; what it says does not matter here."""
    hidden = json.loads((DEMO_BASE / "config.json").read_text())["hidden_size"]
    vectors = np.random.default_rng(0).normal(0, 0.1, (N_VIRTUAL_TOKENS, hidden)).astype(np.float32)
    config = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": N_VIRTUAL_TOKENS}
    folder.mkdir(parents=True)
    save_file({"prompt_embeddings": vectors}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
