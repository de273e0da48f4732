"""How other processes' changes come into what this one keeps in memory: keys, assistants, what adapters' names mean.

And how a background response that was cancelled or deleted elsewhere stops here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from server.freshness import Freshness
from server.storage.database import Database
from server.storage.feed import Feed, Listener, Topic
from server.storage.responses import RESPONSE
from server.threads import run_in

if TYPE_CHECKING:
    from server.services import Services  # which Ray's ingress does without, and with it the indexes' libraries

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.5  # a key revoked in another process stops within a second
STOP_SECONDS = 1.0  # between two looks at whether the responses that are made here are still wanted
END_SECONDS = 1.0  # for a look that is under way; a host that has gone silent is not waited for


async def follow(services: Services) -> None:
    """What a server keeps in memory, and the responses that it makes, until it is cancelled.

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

    async with asyncio.TaskGroup() as following:
        following.create_task(follow_changes(services.database, services.freshness, refreshers, then=follow_pins))
        if not services.settings.is_alone:  # one that is alone stops what its own routes have ended
            following.create_task(stop_unwanted(services))


async def stop_unwanted(services: Services) -> None:
    """Stop making the background responses that have ended or are gone, by a call to another server; until cancelled.

    Nothing is written of them: what has ended stays as it is.
    """
    failing = False
    while True:
        await asyncio.sleep(STOP_SECONDS)
        made_here = [name for name in services.background.names() if name.startswith(RESPONSE)]
        if not made_here:
            continue
        try:
            wanted = await run_in(services.storage_pool, services.responses.unfinished, made_here)
        except Exception:
            if not failing:  # once a second is too often for the same line
                logger.exception("whether responses are still wanted could not be read; trying again")
            failing = True
            continue
        failing = False
        for response_id in set(made_here) - wanted:
            services.background.cancel(response_id)


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
