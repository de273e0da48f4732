"""What soft prompts cost: this server with them switched on beside itself without; prints a table, asserts nothing.

    python -m bench.prompt_tuning                       # about ten minutes on a machine that does nothing else
    python -m bench.prompt_tuning --rounds 4 --clients 1

The first two columns ask both servers for the base's answers, so their ratio is what everybody pays. The third asks
the second server for those of a soft prompt of 32 virtual tokens.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

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
            print("off and on, both asked for the base; then on, asked for the soft prompt, beside on for the base")
            print(report.throughput_head())
            for number, clients in enumerate(chosen.clients):
                _measure(generator, both, clients, rounds=chosen.rounds, first_round=1000 * (number + 1))
        finally:
            for server in both:
                server.stop()


def _measure(generator: Generator, both: list[servers.Server], clients: int, *, rounds: int, first_round: int) -> None:
    load = throughput.Load(clients=clients, requests=REQUESTS.get(clients, 3), max_tokens=N_TOKENS)
    throughput.measure(generator, both, "demo", load, rounds=1, first_round=first_round)  # to warm up
    off, on = throughput.measure(generator, both, "demo", load, rounds=rounds, first_round=first_round + 100)
    print(report.throughput_row(load, on, off), " on, off", flush=True)
    (soft,) = throughput.measure(generator, both[1:], NAME, load, rounds=rounds, first_round=first_round + 200)
    print(report.throughput_row(load, soft, on), " soft prompt, base", flush=True)


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
