"""API keys. A secret is shown once, when it is made; its SHA-256 is all that stays.

caller, secret = keys.create("ci", models=["legal*"], requests_per_minute=60)
keys.find(secret)  # caller again: from memory, no SQL
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import sqlalchemy as sa

from server.storage import feed
from server.storage.callers import Caller, Role
from server.storage.database import Database
from server.storage.errors import KeyAmbiguous, KeyInvalid, KeyNotFound, ManagedByFile
from server.storage.keys_file import hash_secret, read_keys_file
from server.storage.tables import api_keys

__all__ = ["ApiKey", "Caller", "Keys", "Role"]

PREFIX = "mh-"
SHORTEST_ID = 8  # characters of an id that name a key: "key_" and four digits


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it may be shown. Times are Unix seconds."""

    caller: Caller
    sha256: str
    last4: str  # of the secret; "" for a file's key that is given by its hash
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    managed: Literal["api", "file"] = "api"

    def shown(self) -> dict[str, Any]:
        """Everything about it that may be shown, flat and as JSON; the table's columns but for the hash."""
        caller = self.caller
        return {
            "id": caller.key_id,
            "name": caller.name,
            "role": caller.role,
            "owner": caller.owner,
            "models": list(caller.models),
            "stores": list(caller.stores),
            "requests_per_minute": caller.requests_per_minute,
            "tokens_per_minute": caller.tokens_per_minute,
            "max_concurrent": caller.max_concurrent,
            "last4": self.last4,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
        }


class Keys:
    """The keys of the database and of the file. Any thread may call it.

    Other processes' changes are seen after `refresh`, which the server calls when the feed's topic "keys" has moved.
    """

    def __init__(self, database: Database, *, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        """Read the file, then the table, which must exist. Raises FileInvalid."""
        self._database = database
        self._clock = clock
        self._from_file = _file_keys(file) if file else {}
        self._refreshing = threading.Lock()  # a later snapshot is never replaced by an earlier one
        self._known: dict[str, ApiKey] = {}
        self.refresh()

    def create(
        self,
        name: str,
        *,
        role: Role = "inference",
        owner: str | None = None,
        models: Iterable[str] = ("*",),
        stores: Iterable[str] = (),
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_concurrent: int | None = None,
        expires_at: float | None = None,
    ) -> tuple[Caller, str]:
        """Make a key; returns its caller and the secret, which nobody can show again. Raises KeyInvalid."""
        caller = Caller(
            key_id=f"key_{secrets.token_hex(8)}",
            name=name,
            role=role,
            owner=owner or name,
            models=tuple(models),
            stores=tuple(stores),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_concurrent=max_concurrent,
        )
        now = self._clock()
        _check(caller, expires_at, now)
        secret = PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            caller=caller, sha256=hash_secret(secret), last4=secret[-4:], created_at=now, expires_at=expires_at
        )
        with self._database.write() as connection:
            connection.execute(api_keys.insert().values(_row(key)))
            feed.bump(connection, "keys")
        self.refresh()
        return caller, secret

    def list(self) -> Sequence[ApiKey]:
        """Every key, revoked ones too, oldest first, the file's after the database's."""
        return sorted(self._known.values(), key=lambda key: (key.managed, key.created_at, key.caller.key_id))

    def revoke(self, id_or_prefix: str) -> ApiKey:
        """Make a key useless: here at once, in other processes when they refresh. Revoking twice changes nothing.

        Takes an id, its first 8 characters or more, or the name of one key that still works.
        Raises KeyNotFound, KeyAmbiguous or ManagedByFile.
        """
        self.refresh()
        key = self._named(id_or_prefix)
        if key.managed == "file":
            raise ManagedByFile(f"key {key.caller.name!r} comes from the keys file; take it out there and restart")
        if key.revoked_at is not None:
            return key
        revoked = replace(key, revoked_at=self._clock())
        with self._database.write() as connection:
            connection.execute(
                api_keys.update()
                .where(api_keys.c.id == key.caller.key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=revoked.revoked_at)
            )
            feed.bump(connection, "keys")
        self.refresh()
        return revoked

    def find(self, secret: str) -> Caller | None:
        """Whose secret this is; None for an unknown, revoked or expired one. Microseconds, from memory."""
        digest = hash_secret(secret)
        key = self._known.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest) or key.revoked_at is not None:
            return None
        if key.expires_at is not None and key.expires_at <= self._clock():
            return None
        return key.caller

    def any_exist(self) -> bool:
        """Whether a key was ever made, here or in the file; revoked ones count, so that revoking opens no door."""
        return bool(self._known)

    def refresh(self) -> None:
        """Read the table again."""
        with self._refreshing:
            with self._database.look() as connection:
                stored = [_key(row) for row in connection.execute(sa.select(api_keys)).mappings()]
            # A key that the database knows is what the database says, or a revoked one would live on in the file.
            self._known = self._from_file | {key.sha256: key for key in stored}

    def _named(self, text: str) -> ApiKey:
        keys = list(self._known.values())
        matches = [key for key in keys if key.caller.key_id == text]
        if not matches:
            by_name = [key for key in keys if key.caller.name == text and key.revoked_at is None]
            by_prefix = [key for key in keys if len(text) >= SHORTEST_ID and key.caller.key_id.startswith(text)]
            matches = by_name or by_prefix
        if not matches:
            raise KeyNotFound(f"no API key has the id or name {text!r}; `manyhats keys list` shows all")
        if len(matches) > 1:
            listed = ", ".join(sorted(f"{key.caller.key_id} ({key.caller.name})" for key in matches))
            raise KeyAmbiguous(f"{text!r} means {len(matches)} API keys: {listed}; give one id")
        return matches[0]


def _file_keys(path: Path) -> dict[str, ApiKey]:
    written_at = path.stat().st_mtime if path.exists() else 0.0
    return {
        digest: ApiKey(caller=caller, sha256=digest, last4=last4, created_at=written_at, managed="file")
        for digest, (caller, last4) in read_keys_file(path).items()
    }


def _check(caller: Caller, expires_at: float | None, now: float) -> None:
    for field in ("name", "owner"):
        value: str = getattr(caller, field)
        if not 1 <= len(value) <= 96 or not value.isprintable():
            raise KeyInvalid(f"{field} {value[:96]!r} must have 1 to 96 printable characters")
    if caller.role not in get_args(Role):
        raise KeyInvalid(f"role {caller.role!r} is none; give one of {', '.join(get_args(Role))}")
    for field in ("requests_per_minute", "tokens_per_minute", "max_concurrent"):
        limit = getattr(caller, field)
        if limit is not None and not 1 <= limit < 2**31:
            raise KeyInvalid(f"{field}={limit!r} must be 1 or more; leave it out for no limit")
    if expires_at is not None and expires_at <= now:
        raise KeyInvalid(f"expires_at={expires_at!r} has passed; give Unix seconds in the future")


def _row(key: ApiKey) -> dict[str, Any]:
    return {**key.shown(), "sha256": key.sha256}


def _key(row: sa.RowMapping) -> ApiKey:
    caller = Caller(
        key_id=row["id"],
        name=row["name"],
        role=row["role"],
        owner=row["owner"],
        models=tuple(row["models"]),
        stores=tuple(row["stores"]),
        requests_per_minute=row["requests_per_minute"],
        tokens_per_minute=row["tokens_per_minute"],
        max_concurrent=row["max_concurrent"],
    )
    return ApiKey(
        caller=caller,
        sha256=row["sha256"],
        last4=row["last4"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
