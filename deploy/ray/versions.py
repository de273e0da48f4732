"""What a request's `model` means, for the choice of its replica: the replica itself decides anew, and refuses.

A request that is wrong or not allowed has no version here; any replica tells its client why. While the database is
away, what is known holds for as long as it does in a replica (`server.freshness`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection

from starlette.datastructures import Headers

from adapters.registry import Registry
from deploy.ray.messages import Request
from server.agreement import follow_changes
from server.assistants import Catalogue
from server.auth import Authenticator
from server.errors import STATUS, ApiError
from server.freshness import Freshness
from server.settings import Settings
from server.storage.assistants import Assistants
from server.storage.database import Database
from server.storage.feed import Topic
from server.storage.keys import Keys

GENERATES = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"})


class NoFiles:
    """The blobs of a registry that only resolves names."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the ingress reads no adapter's files, and was asked for {name!r}")


class Versions:
    """Names, aliases and keys of the shared database, followed as they change."""

    def __init__(
        self,
        settings: Settings,
        *,
        base_fingerprint: str,
        embedders: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the tables, which must exist; `base_fingerprint` and `embedders` are what a replica says of itself.

        clock: of how old memory may be.
        """
        self._database = Database(settings.sql_url)
        self._keys = Keys(self._database, file=settings.api_keys_file)
        self._registry = Registry(
            self._database,
            NoFiles(),  # type: ignore[arg-type]  # as it says
            base_name=settings.base_name,
            base_fingerprint=base_fingerprint,
        )
        self._assistants = Assistants(self._database, file=settings.assistants_file)
        self._authenticator = Authenticator(self._keys, settings)
        self._freshness = Freshness(settings.stale_seconds, clock=clock)
        self._catalogue = Catalogue(
            base_name=settings.base_name, registry=self._registry, assistants=self._assistants, embedders=embedders
        )

    def engine_name(self, request: Request) -> str:
        """The version that a request's `model` means, by its engine name; "" for the base model and for any error.

        Raises DatabaseUnavailable when what is known is too old to say.
        """
        if request.method != "POST" or request.path not in GENERATES:
            return ""
        self._freshness.check()
        if not isinstance(request.body, bytes):
            return ""
        try:
            parsed = json.loads(request.body)
            if not isinstance(parsed, dict):
                return ""
            caller = self._authenticator.caller(Headers(raw=list(request.headers)))
            version = self._catalogue.plan(parsed, caller).version
        except (ValueError, RecursionError, ApiError, *STATUS):
            return ""
        return "" if version is None or version.is_soft_prompt else version.engine_name

    async def follow(self) -> None:
        """Read again what other processes have changed; until it is cancelled."""
        refreshers: dict[Topic, Callable[[], None]] = {
            "keys": self._keys.refresh,
            "adapters": self._registry.refresh,
            "assistants": self._assistants.refresh,
        }
        await follow_changes(self._database, self._freshness, refreshers)

    def close(self) -> None:
        """Let the database go."""
        self._database.close()
