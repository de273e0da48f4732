"""Who asks, and what they may do.

Without any key the server is open to this machine alone: everybody who reaches it is the admin "local". A web page in
a browser on this machine reaches it too, so then the Host must be loopback (a rebound DNS name is not) and the Origin
its own. Once a key was made, every request needs one.
"""

from __future__ import annotations

import ipaddress
import re
from fnmatch import fnmatchcase
from typing import Protocol

from starlette.datastructures import Headers

from adapters.names import split_permanent
from server.errors import ApiError
from server.settings import Settings
from server.storage.callers import Caller

LOCAL = Caller(key_id="local", name="local", role="admin", owner="local")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="manyhats"'}
HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?")


class KeyTable(Protocol):
    """What is needed of the keys; both answer from memory."""

    def find(self, secret: str) -> Caller | None:
        """Whose secret this is, None when nobody's any more."""
        ...

    def any_exist(self) -> bool:
        """Whether a key was ever made; revoked ones count."""
        ...


class Exposed(Exception):
    """The server would listen to other machines without any key."""


class Authenticator:
    """From headers to a caller."""

    def __init__(self, keys: KeyTable, settings: Settings) -> None:
        self._keys = keys
        self._is_local = is_loopback(settings.host)
        self._cors_origins = frozenset(settings.cors_origins)  # "*" is no origin, so it opens nothing here

    def caller(self, headers: Headers) -> Caller:
        """Who sent these headers.

        Raises ApiError 401 for a key that is missing, malformed or unknown; 403 for a foreign Host or Origin where the
        server is open without key.
        """
        if not self._keys.any_exist() and self._is_local:
            self._check_local(headers)
            return LOCAL
        caller = self._keys.find(_secret(headers))
        if caller is None:
            message = "this API key is unknown, expired or revoked; `manyhats keys create` on the server makes one"
            raise _unauthorized(message, code="invalid_api_key")
        return caller

    def _check_local(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not is_loopback(host):
            message = (
                f"Host {host!r} is not this machine's own; without API keys only localhost is answered. "
                "Use http://127.0.0.1, or make a key: `manyhats keys create`"
            )
            raise ApiError(403, message, type="permission_error", code="host_not_allowed")
        origin = headers.get("origin")
        if origin is None or origin in self._cors_origins or origin in (f"http://{host}", f"https://{host}"):
            return
        message = (
            f"Origin {origin!r} is not the server's own; name it in MANYHATS_CORS_ORIGINS to let its pages in, or make "
            "a key: `manyhats keys create`"
        )
        raise ApiError(403, message, type="permission_error", code="origin_not_allowed")


def check_exposure(settings: Settings, any_keys: bool) -> None:
    """Before listening: raises Exposed when other machines could reach a server that has no key."""
    if any_keys or is_loopback(settings.host):
        return
    raise Exposed(
        f"MANYHATS_HOST={settings.host} lets other machines in, and there is no API key yet. Make one with "
        "`manyhats keys create NAME --role admin`, or listen on 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether a host, as settings or a Host header have it (with or without port), is this machine by its very name."""
    match = HOST.fullmatch(host)
    name = match["name"].strip("[]").lower() if match else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def may_use(caller: Caller, *names: str) -> bool:
    """Whether the caller may name one of these models. A right to `legal` holds for all names of its versions too."""
    if caller.is_admin:
        return True
    permanent = {found[1] for name in names if (found := split_permanent(name))}
    spellings = {spelling for name in (*names, *permanent) for spelling in (name, name.partition("@")[0])}
    return any(fnmatchcase(spelling, glob) for spelling in spellings for glob in caller.models)


def may_see(caller: Caller, owner: str) -> bool:
    """Whether something of this owner exists for the caller; where not, the answer is 404."""
    return caller.is_admin or caller.owner == owner


def seen_by(caller: Caller) -> str | None:
    """Whose files and stores the caller sees; None is everybody's."""
    return None if caller.is_admin else caller.owner


def require_admin(caller: Caller) -> None:
    """Raises ApiError 403 unless the caller's key is an admin's."""
    if not caller.is_admin:
        message = f"this needs an admin key, and {caller.name!r} is an {caller.role} key"
        raise ApiError(403, message, type="permission_error", code="admin_required")


def _secret(headers: Headers) -> str:
    """The one key that was sent, by either header."""
    secrets = {given for value in headers.getlist("authorization") if (given := _bearer(value))}
    secrets |= {value.strip() for value in headers.getlist("x-api-key") if value.strip()}
    if not secrets:
        raise _unauthorized("no API key; send `Authorization: Bearer <key>` or `x-api-key: <key>`", code="no_api_key")
    if len(secrets) > 1:
        message = "two different API keys were sent; send one, as Authorization or as x-api-key"
        raise _unauthorized(message, code="invalid_api_key")
    return secrets.pop()


def _bearer(value: str) -> str:
    scheme, _, secret = value.strip().partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret or " " in secret:
        raise _unauthorized("the Authorization header must read `Bearer <key>`", code="invalid_api_key")
    return secret


def _unauthorized(message: str, *, code: str) -> ApiError:
    return ApiError(401, message, type="authentication_error", code=code, headers=CHALLENGE)
