"""What a running server does by itself: what has expired ends within a minute, and leftovers go every hour.

Where several are at work, each does it: every step is safe beside another's, and none depends on one that may be dead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from adapters.shelf import Shelf
from retrieval.upkeep import sweep
from server.leftovers import Leftovers
from server.services import Services
from server.storage import feed
from server.threads import run_in

logger = logging.getLogger(__name__)

EXPIRY_SECONDS = 30.0  # what has expired is not found from that moment on; only its rows and bytes stay so long
SWEEP_SECONDS = 3600.0
LEARNING_SECONDS = 30.0  # for a server to learn of a removal, and for its request's last steps


async def keep_up(services: Services) -> None:
    """Until it is cancelled. Beside everything else, because the end of a large store takes its time."""
    sweep_at = time.monotonic()  # at once: what ran here before may have been killed
    leftovers = leftovers_of(services)
    while True:
        try:
            await run_in(services.file_pool, end_expired, services)
            if not services.settings.is_alone:  # of another server that died; its own are found at its start
                await run_in(services.file_pool, fail_interrupted, services)
                await run_in(services.file_pool, fail_stalled, services)
            if time.monotonic() >= sweep_at:
                sweep_at = time.monotonic() + SWEEP_SECONDS
                await run_in(services.file_pool, sweep_all, services)
            if not services.settings.is_alone:
                await run_in(services.file_pool, leftovers.look)  # last, because it asks another host
        except Exception:
            logger.exception("what has expired could not be removed; trying again in %.0f s", EXPIRY_SECONDS)
        await asyncio.sleep(EXPIRY_SECONDS)


def leftovers_of(services: Services) -> Leftovers:
    """Files of removed versions, which a server that is alone deletes at once and others when nobody can need them."""
    settings = services.settings
    # a server that is cut off from the database still answers by the names that it knew
    wait_seconds = settings.longest_answer_seconds + settings.stale_seconds + LEARNING_SECONDS
    return Leftovers(services.database, Shelf(services.blobs), wait_seconds=wait_seconds)


def end_expired(services: Services) -> None:
    """End files and stores whose time is over."""
    files, stores = services.files.purge_expired(), services.stores.expire_due()
    if files or stores:
        logger.info("expired: %d files, %d vector stores", files, stores)
    if stores:
        _drop_dead_indexes(services)


def fail_interrupted(services: Services) -> None:
    """End the responses that a dead process was making: beside other servers when none that lives can be at them."""
    before = None if services.settings.is_alone else time.time() - services.settings.longest_answer_seconds
    if count := services.responses.fail_interrupted(before=before):
        logger.info("%d responses were interrupted", count)


def fail_stalled(services: Services) -> None:
    """Free the names whose adapters a dead server was fetching."""
    if count := services.registry.fail_stalled():
        logger.info("%d adapters were not fetched within an hour", count)


def sweep_all(services: Services) -> None:
    """Remove what nobody needs any more: responses, rows, bytes, vectors, and the indexes of stores that are gone."""
    services.responses.purge_expired(time.time())
    swept = sweep(services.database, services.blobs, on_write=partial(feed.bump, topic="files"))
    logger.info("swept: %s", swept)
    _drop_dead_indexes(services)
    services.blobs.tidy()  # last, because it asks another host


def _drop_dead_indexes(services: Services) -> None:
    folder = services.settings.index_dir
    found = [path.name for path in folder.glob("vs_*")] if folder.is_dir() else []
    for store_id in set(found) - services.store_names.living(found):
        services.searcher.drop(store_id)
