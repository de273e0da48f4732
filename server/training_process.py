"""The training worker: small and without torch, it has a process for each fine-tuning job and looks after it.

A server starts one; `manyhats worker train` runs one alone, beside a server that has none of its own, or more. Jobs are
told apart by leases, and workers by their names: a name is a file whose lock its bearer and its bearer's processes
hold. So whoever gets a name knows that all of its former bearer is dead, and takes its jobs up at once.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

from adapters.training.folders import JobFolders
from adapters.training.job import Job
from adapters.training.jobs import Jobs
from server.logs import configure, quiet_children
from server.pauses import Pauses
from server.settings import Settings, load_settings
from server.storage import feed
from server.storage.database import Database
from server.storage.file_lock import try_lock
from server.training_worker import Start, Worker

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25  # between two looks at the table
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")


def main(*, alone: bool = False) -> int:
    """Work until SIGTERM or SIGINT. alone: no server started it, so that no engine of its own is on the first GPU."""
    settings = load_settings()
    configure(settings)
    quiet_children(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    name, lock = take_name(settings.data_dir / "workers")
    start = partial(start_child, settings, lock, alone)
    with closing(Database(settings.sql_url)) as database:
        _work(database, settings, name, start, stop)
    os.close(lock)
    return 0


def take_name(folder: Path) -> tuple[str, int]:
    """A name that nobody alive bears, and the descriptor that keeps it so for as long as any process has it open."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in count(1):
        lock = os.open(folder / f"training-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if not try_lock(lock):
            os.close(lock)
            continue
        token = os.pread(lock, 16, 0).decode()
        if len(token) != 16:
            token = secrets.token_hex(8)  # other data directories may share the database
            os.pwrite(lock, token.encode(), 0)
        return f"training-{token}", lock
    raise AssertionError("numbers do not end")


def start_child(settings: Settings, lock: int, alone: bool, job: Job, holder: str) -> subprocess.Popen[bytes]:
    """The process of a job. It keeps the worker's name taken until it has ended too."""
    command = [sys.executable, "-P", "-m", "server", "train-job", job.id, "--holder", holder]
    return subprocess.Popen(  # noqa: S603  # the command is the server's own, and no shell reads it
        [*command, "--parent", str(os.getpid()), *(["--alone"] if alone else [])],
        env={**os.environ, **threads_told(settings)},
        stdin=subprocess.DEVNULL,
        pass_fds=(lock,),
    )


def threads_told(settings: Settings) -> Mapping[str, str]:
    """What libraries read when they are loaded, each under its own name."""
    return dict.fromkeys(THREADS, str(n_threads(settings)))


def n_threads(settings: Settings) -> int:
    """Cores that one job takes: all but one unless it is set, and at least one."""
    return settings.training_threads or max(1, len(os.sched_getaffinity(0)) - 1)


def _work(database: Database, settings: Settings, name: str, start: Start, stop: threading.Event) -> None:
    worker = Worker(
        Jobs(database, on_write=partial(feed.bump, topic="training")),
        name=name,
        folders=JobFolders(settings.training_dir),
        start=start,
        n_jobs=settings.training_jobs,
        only_here=not settings.is_alone,
    )
    is_migrated = False
    pauses = Pauses("looking after fine-tuning jobs", logger)
    while not stop.is_set():
        try:
            if not is_migrated:
                database.migrate()
                is_migrated = True
            worker.step()
            pauses.worked()
            stop.wait(POLL_SECONDS)
        except Exception as error:  # noqa: BLE001  # it is logged where the pause is decided
            stop.wait(pauses.after(error))
    worker.close()
