"""An adapter and its versions, as every request may share them: frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapters.errors import AliasInvalid
from adapters.names import SHORT_DIGITS, find_digest, shown, split
from adapters.routing import Traffic, check_weights

Status = Literal["staging", "ready", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Immutable weights under a name: a LoRA, or a soft prompt."""

    adapter: str
    digest: str  # 64 hex digits over the config fields that matter and the weights
    lora_id: int  # never given out twice
    rank: int  # 0 is a soft prompt, which takes no slot
    size_bytes: int
    source: str
    created_at: float  # unix seconds
    error: str | None = None  # why it cannot be served: its files were found missing
    details: Mapping[str, Any] = field(hash=False)  # what preflight, conversion and the first load found

    @property
    def id(self) -> str:
        """What clients see and may send."""
        return f"{self.adapter}@{self.digest[:SHORT_DIGITS]}"

    @property
    def engine_name(self) -> str:
        """What the engine calls it: its prefix cache is keyed by this, so it names these bytes only."""
        return f"{self.adapter}@{self.digest}"

    @property
    def is_soft_prompt(self) -> bool:
        """Whether it is vectors that stand before the prompt, in place of a LoRA."""
        return self.details.get("kind") == "prompt_tuning"

    @property
    def n_virtual_tokens(self) -> int:
        """What it takes of every request's context; 0 for a LoRA."""
        return int(self.details.get("n_virtual_tokens") or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A name, its versions in the order they came, and where the name points."""

    name: str
    base_fingerprint: str
    base_name: str
    created_at: float  # unix seconds
    pinned: bool
    traffic: Traffic  # one entry, or a canary's several; empty before the first version
    previous: Traffic | None  # where the name pointed before its last move
    versions: tuple[Version, ...]
    status: Status
    error: str | None
    source: str

    @property
    def active(self) -> tuple[Version, ...]:
        """The versions that the name means now."""
        digests = {digest for digest, _ in self.traffic}
        return tuple(version for version in self.versions if version.digest in digests)

    def having(self, digest: str) -> Version | None:
        """The version with these bytes."""
        return next((version for version in self.versions if version.digest == digest), None)

    def find(self, version: str) -> Version:
        """A version by its id or its digest's prefix; raises as `find_digest`, and AliasInvalid for another name's."""
        name, prefix = split(version)
        if prefix is not None and name != self.name:
            raise AliasInvalid(f"{shown(version)} is not a version of {self.name!r}")
        digest = find_digest(self.name, version.lower() if prefix is None else prefix, self._digests)
        return next(found for found in self.versions if found.digest == digest)

    def target(self, version: str) -> Traffic:
        """Where the name would point with all of its traffic on one version, or back where it pointed before."""
        if version != "previous":
            return ((self._servable(version).digest, 1),)
        if self.previous is None:
            raise AliasInvalid(f"{self.name!r} has no previous version to go back to; name a version")
        for digest, _ in self.previous:
            self._servable(digest)
        return self.previous

    def shares(self, weights: Mapping[str, float]) -> Traffic:
        """Where the name would point with its traffic shared out; the oldest version first, however they were given."""
        check_weights(weights)
        by_digest: dict[str, float] = {}
        for version, weight in weights.items():
            digest = self._servable(version).digest
            if digest in by_digest:
                raise AliasInvalid(f"{shown(version)} is named twice in the traffic of {self.name!r}")
            by_digest[digest] = weight
        return tuple((digest, by_digest[digest]) for digest in self._digests if digest in by_digest)

    @property
    def _digests(self) -> list[str]:
        return [version.digest for version in self.versions]

    def _servable(self, version: str) -> Version:
        found = self.find(version)
        if found.error is not None:
            raise AliasInvalid(f"{found.id} cannot be served: {found.error}")
        return found
