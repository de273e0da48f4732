"""`MANYHATS_API_KEYS_FILE`: API keys that an operator keeps in a file, read at start.

- name: ci
  key: a-secret-of-16-or-more-characters   # or sha256: the hash of it, in hex
  role: inference                          # or admin
  owner: team-a                            # the name, unless given
  models: ["legal*", demo]                 # all, unless given
  stores: [handbook]
  limits: {requests_per_minute: 60, tokens_per_minute: 20000, max_concurrent: 4}
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from server.storage.callers import Caller, Role
from server.storage.entries_file import read_entries
from server.storage.errors import FileInvalid

SHORTEST_SECRET = 16  # characters; shorter ones can be guessed

Name = Annotated[str, StringConstraints(min_length=1, max_length=96)]
Limit = Annotated[int, Field(ge=1)]


class Limits(BaseModel):
    """How much one key may ask for; what is not given has no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    max_concurrent: Limit | None = None


class KeyEntry(BaseModel):
    """One key of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    key: SecretStr | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)] | None = None
    role: Role = "inference"
    owner: Name | None = None
    models: tuple[str, ...] = ("*",)
    stores: tuple[str, ...] = ()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_secret(self) -> KeyEntry:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give either key or sha256")
        if self.key is not None and len(self.key.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(f"key: must have {SHORTEST_SECRET} characters or more, or it can be guessed")
        return self

    def digest(self) -> str:
        """SHA-256 of the secret, lower-case hex."""
        return self.sha256 or hash_secret(self.key.get_secret_value() if self.key else "")


def hash_secret(secret: str) -> str:
    """SHA-256 of a secret, lower-case hex: all that is ever kept of it."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def read_keys_file(path: Path) -> dict[str, tuple[Caller, str]]:
    """Callers by the SHA-256 of their secret, each with the secret's last four characters ("" where unknown).

    Raises FileInvalid.
    """
    callers: dict[str, tuple[Caller, str]] = {}
    for entry in read_entries(path, KeyEntry):
        digest = entry.digest()
        if digest in callers:
            raise FileInvalid(f"{path}: {callers[digest][0].name!r} and {entry.name!r} have the same key")
        caller = Caller(
            key_id=f"key_file_{digest[:12]}",
            name=entry.name,
            role=entry.role,
            owner=entry.owner or entry.name,
            models=entry.models,
            stores=entry.stores,
            **entry.limits.model_dump(),
        )
        callers[digest] = caller, entry.key.get_secret_value()[-4:] if entry.key else ""
    return callers
