"""How other processes' changes come into what this one keeps in memory: keys, assistants, what adapters' names mean."""

from __future__ import annotations

import logging

from server.services import Services, pool
from server.storage.feed import Feed, Listener
from server.threads import run_in

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.5  # a key revoked in another process stops within a second


async def follow(services: Services) -> None:
    """Until it is cancelled. On PostgreSQL changes are told; besides, they are looked for twice a second.

    Files and stores are read when they are asked for, and need no following.
    """
    refreshers = {
        "keys": services.keys.refresh,
        "adapters": services.registry.refresh,
        "assistants": services.assistants.refresh,
    }
    feed, listener = Feed(services.database), Listener(services.database)
    thread = pool("following", 1)  # its own, so that no other work keeps it waiting
    services.freshness.confirm(services.freshness.now())
    seen: dict[str, int] = {}  # so that what changed while the server started is read too
    failing = False
    try:
        while True:
            await run_in(thread, listener.wait, FOLLOW_SECONDS)
            try:
                began = services.freshness.now()
                now = await run_in(thread, feed.generations)
                moved = {topic for topic in refreshers if now.get(topic) != seen.get(topic)}
                for topic in moved:
                    await run_in(thread, refreshers[topic])
                services.freshness.confirm(began)
                if "adapters" in moved:
                    await services.slots.follow_pins()
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
        thread.submit(listener.close)
        thread.shutdown(wait=False)
