"""The ingestion process: reads, splits and embeds files while the API process answers, and re-embeds stores.

Reading and embedding happen in one thread of idle priority, so that chat is not hurt. The database is written from the
main thread at normal priority, because whoever holds the database's lock must not be kept waiting for a core.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache, partial

from retrieval.embedding import Embedder
from retrieval.files import Files
from retrieval.heavy import Heavy, Stopped
from retrieval.ingestion import Ingestion
from retrieval.queue import Queue
from retrieval.reembedding import Reembedding
from retrieval.reembedding_table import Reembeddings
from retrieval.vectors import Vectors
from server.blobs import open_blobs
from server.embedders import embedder_of
from server.logs import configure, quiet_children
from server.pauses import Pauses
from server.settings import Settings, load_settings
from server.storage import feed
from server.storage.database import Database
from server.storage.identity import identity_of

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25  # between two looks at the queue


def main() -> int:
    """Work until SIGTERM or SIGINT."""
    settings = load_settings()
    configure(settings)
    quiet_children(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ThreadPoolExecutor(1, "heavy", initializer=_become_idle) as pool:
        heavy = Heavy(pool, stop)
        pauses = Pauses("ingestion", logger)
        # kept over failures: a model that is loaded again would cost more than most of them last
        embedder = cache(partial(embedder_of, settings))
        with suppress(Stopped):
            _keep_working(partial(_work, settings, heavy, stop, embedder, pauses), stop, pauses)
        pool.shutdown(wait=False, cancel_futures=True)
        logging.shutdown()
        os._exit(0)  # a batch that is under way in the idle thread is not waited for: its files are claimed again


def holder_of(settings: Settings) -> str:
    """Who works here: one such process per data directory, so what another one held, it held before it died.

    Other data directories may share the database, and their processes live.
    """
    return f"ingestion-{identity_of(settings.data_dir)}"


def _become_idle() -> None:
    """This thread, and those that it starts, get the processor when nobody else wants it."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _keep_working(work: Callable[[], None], stop: threading.Event, pauses: Pauses) -> None:
    while not stop.is_set():
        try:
            work()
            return
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  # it is logged where the pause is decided
            stop.wait(pauses.after(error))


def _work(
    settings: Settings, heavy: Heavy, stop: threading.Event, load: Callable[[], Embedder], pauses: Pauses
) -> None:
    with closing(Database(settings.sql_url)) as database:
        database.migrate()
        queue = Queue(database, on_write=partial(feed.bump, topic="ingestion"))
        holder = holder_of(settings)
        queue.release(holder)
        table = Reembeddings(database, on_write=partial(feed.bump, topic="ingestion"))
        table.release(holder)
        files = Files(database, open_blobs(settings), max_bytes=settings.max_file_bytes)
        # the model is loaded with the first work: a server without files does without it
        while not queue.is_due() and not table.all():
            pauses.worked()
            if stop.wait(POLL_SECONDS):
                return
        embedder = heavy.run(load)
        vectors = Vectors(database)
        ingestion = Ingestion(
            queue,
            files,
            vectors,
            embedder,
            holder=holder,
            parse_seconds=settings.parse_seconds,
            parse_memory_bytes=settings.parse_memory_mib * 1024**2,
            heavy=heavy,
        )
        reembedding = Reembedding(table, vectors, embedder, holder=holder, heavy=heavy)
        while not stop.is_set():
            worked = ingestion.step()
            worked = reembedding.step() or worked  # batch by batch, so that new files need not wait for a whole store
            pauses.worked()
            if not worked:
                stop.wait(POLL_SECONDS)
