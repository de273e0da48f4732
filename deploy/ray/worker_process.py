"""`python -m deploy.ray.worker_process`: ingestion and training, under one supervisor that has the data directory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from server import logs
from server.process_tree import die_with_parent
from server.serve import ingestion_child, training_child
from server.settings import Settings, load_settings
from server.storage.data_lock import DataLock
from server.supervisor import Child, Supervisor


def main(argv: Sequence[str]) -> int:
    """Run until told to stop; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.ray.worker_process", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="process id: this process ends with it")
    parser.add_argument("--address", required=True, help="where the server is reached")
    told = parser.parse_args(argv)
    die_with_parent(told.parent)
    settings = load_settings()
    logs.configure(settings)
    with DataLock(settings.data_dir) as lock:
        lock.write_address(told.address)
        return Supervisor(children(settings)).run()


def children(settings: Settings) -> list[Child]:
    """The processes that the settings ask for."""
    found = []
    if settings.ingestion:
        found.append(ingestion_child())
    if settings.training:
        found.append(training_child())
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
