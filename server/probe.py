"""Asks a running server whether it is ready and what it serves; standard library only, since the parent is small."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass

PAUSE_SECONDS = 0.2
TIMEOUT_SECONDS = 5.0

# never by a proxy: the server is on this machine
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What GET /v1/models said: (name, type) of each model, or that a key is needed."""

    models: tuple[tuple[str, str], ...] = ()
    needs_key: bool = False

    @property
    def names(self) -> list[str]:
        """What `model` may be."""
        return [name for name, _ in self.models]


def wait_ready(address: str, stopped: threading.Event) -> bool:
    """Wait until GET /ready is 200; False when the event was set before."""
    while not stopped.is_set():
        if is_ready(address):
            return True
        stopped.wait(PAUSE_SECONDS)
    return False


def is_ready(address: str) -> bool:
    """Whether GET /ready is 200 now."""
    try:
        with _opener.open(f"{address}/ready", timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):  # not listening, 503, or not HTTP at all
        return False


def list_models(address: str, api_key: str = "") -> Listing:
    """Every name that the key may use; an empty listing where the server does not say."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    request = urllib.request.Request(f"{address}/v1/models", headers=headers)  # noqa: S310  # always http, see `url`
    try:
        with _opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            body = json.load(answer)
            return Listing(models=tuple((str(entry["id"]), str(entry.get("type"))) for entry in body["data"]))
    except urllib.error.HTTPError as error:
        error.close()
        return Listing(needs_key=error.code in (401, 403))
    except (OSError, ValueError, KeyError, TypeError):
        return Listing()
