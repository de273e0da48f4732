"""`python -m server` is the `manyhats` command; with `api` or `ingestion`, a process that its parent starts."""

from __future__ import annotations

import argparse
import sys


def main() -> None:
    """Run one or the other."""
    if sys.argv[1:2] == ["api"]:
        _run_api(sys.argv[2:])
    elif sys.argv[1:2] == ["ingestion"]:
        _run_ingestion(sys.argv[2:])
    else:
        from server.cli import main as run_cli

        run_cli()


def _run_api(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m server api", description="The API process, for its supervisor.")
    parser.add_argument("--parent", type=int, help="process id of the supervisor: this process ends with it")
    parser.add_argument("vllm_args", nargs="*", help="flags for vLLM, after `--`")
    told = parser.parse_args(argv)
    _end_with(told.parent)
    from server.app_process import leave
    from server.app_process import main as run_api

    leave(run_api(told.vllm_args))


def _run_ingestion(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m server ingestion", description="Reads files, for its supervisor.")
    parser.add_argument("--parent", type=int, help="process id of the supervisor: this process ends with it")
    _end_with(parser.parse_args(argv).parent)
    from server.ingestion_process import main as run_ingestion

    sys.exit(run_ingestion())


def _end_with(parent: int | None) -> None:
    if parent is None:
        return
    from server.process_tree import die_with_parent

    die_with_parent(parent)  # before anything slow, so that no time is left in which an orphan could stay


if __name__ == "__main__":  # vLLM spawns its processes, and each imports this module again
    main()
