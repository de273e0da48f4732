"""`python -m server` is the `manyhats` command; with one of four other words, a process that its parent starts."""

from __future__ import annotations

import argparse
import sys


def main() -> None:
    """Run one or the other."""
    if sys.argv[1:2] == ["api"]:
        _run_api(sys.argv[2:])
    elif sys.argv[1:2] == ["ingestion"]:
        _run_ingestion(sys.argv[2:])
    elif sys.argv[1:2] == ["training"]:
        _run_training(sys.argv[2:])
    elif sys.argv[1:2] == ["train-job"]:
        _run_training_job(sys.argv[2:])
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


def _run_training(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m server training", description="Trains, for its supervisor.")
    parser.add_argument("--parent", type=int, help="process id of the supervisor: this process ends with it")
    _end_with(parser.parse_args(argv).parent)
    from server.training_process import main as run_training

    sys.exit(run_training())


def _run_training_job(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m server train-job", description="One job, for its worker.")
    parser.add_argument("job", help="the job's id")
    parser.add_argument("--holder", required=True, help="who has claimed it")
    parser.add_argument("--alone", action="store_true", help="no server has started the worker")
    parser.add_argument("--parent", type=int, help="process id of the worker: this process ends with it")
    told = parser.parse_args(argv)
    _end_with(told.parent)
    from server.training_job import main as run_job

    sys.exit(run_job(told.job, told.holder, alone=told.alone))


def _end_with(parent: int | None) -> None:
    if parent is None:
        return
    from server.process_tree import die_with_parent

    die_with_parent(parent)  # before anything slow, so that no time is left in which an orphan could stay


if __name__ == "__main__":  # vLLM spawns its processes, and each imports this module again
    main()
