"""How other processes' changes come into what this one keeps in memory: keys, assistants, what adapters' names mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from server.freshness import Freshness
from server.storage.database import Database
from server.storage.feed import Feed, Listener, Topic
from server.threads import run_in

if TYPE_CHECKING:
    from server.services import Services  # which Ray's ingress does without, and with it the indexes' libraries

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.5  # a key revoked in another process stops within a second
END_SECONDS = 1.0  # for a look that is under way; a host that has gone silent is not waited for


async def follow(services: Services) -> None:
    """What a server keeps in memory, until it is cancelled.

    Files and stores are read when they are asked for, and need no following.
    """
    refreshers: dict[Topic, Callable[[], None]] = {
        "keys": services.keys.refresh,
        "adapters": services.registry.refresh,
        "assistants": services.assistants.refresh,
    }

    async def follow_pins(moved: set[Topic]) -> None:
        if "adapters" in moved:
            await services.slots.follow_pins()

    await follow_changes(services.database, services.freshness, refreshers, then=follow_pins)


async def follow_changes(
    database: Database,
    freshness: Freshness,
    refreshers: Mapping[Topic, Callable[[], None]],
    *,
    then: Callable[[set[Topic]], Awaitable[None]] | None = None,
) -> None:
    """Call the refresher of each topic that has changed, in a thread; until it is cancelled.

    On PostgreSQL changes are told; besides, they are looked for twice a second. `then` is awaited with the topics that
    were read again; where it raises, they are read once more at the next look.
    """
    feed, listener = Feed(database), Listener(database)
    thread = ThreadPoolExecutor(1, "following")  # its own, so that no other work keeps it waiting
    freshness.confirm(freshness.now())
    seen: dict[str, int] = {}  # so that what changed while the process started is read too
    failing = False
    try:
        while True:
            await run_in(thread, listener.wait, FOLLOW_SECONDS)
            try:
                began = freshness.now()
                now = await run_in(thread, feed.generations)
                moved = {topic for topic in refreshers if now.get(topic) != seen.get(topic)}
                for topic in moved:
                    await run_in(thread, refreshers[topic])
                freshness.confirm(began)
                if then is not None:
                    await then(moved)
                seen = now
                if failing:
                    logger.info("changes of other processes are read again")
                failing = False
            except Exception:
                if not failing:  # twice a second is too often for the same line
                    logger.exception("changes of other processes could not be read; trying again")
                failing = True
    finally:
        listener.stop()
        closing = asyncio.ensure_future(run_in(thread, listener.close))
        await asyncio.wait({closing}, timeout=END_SECONDS)  # whoever closes the database next finds it at rest
        thread.shutdown(wait=False)
