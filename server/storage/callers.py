"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["inference", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever holds an API key, and what it may do. Frozen, because all of its requests share it."""

    key_id: str
    name: str
    role: Role
    owner: str  # whose files, stores and responses it sees; several keys may share one
    models: tuple[str, ...] = ("*",)  # globs over the names that `model` takes
    stores: tuple[str, ...] = ()  # globs over stores of others that it may search
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None

    @property
    def is_admin(self) -> bool:
        """Whether it may see and change everything."""
        return self.role == "admin"
