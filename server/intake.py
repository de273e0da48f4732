"""How bytes become a registered version: staged, converted where asked, checked, stored, and only then named.

Synchronous: runs in the adapter pool. The engine sees nothing of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from adapters import preflight
from adapters.adapter import Version
from adapters.base_model import BaseModel
from adapters.convert import convert
from adapters.manifest import Manifest
from adapters.registry import Registry
from adapters.sources import Sources
from server.storage.blobs import LocalBlobs

Stage = Callable[[Sources, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to register, under which name, and what to do with it first."""

    name: str
    source: str  # as it is shown to admins: "upload", a folder or a URL
    stage: Stage
    pin: bool = False
    convert: bool = False  # make a plain LoRA of it first: PiSSA and OLoRA exactly, larger ranks by truncated SVD
    rank: int | None = None  # the rank to cut to; None keeps it
    begun: bool = False  # the name was taken before the bytes were fetched
    as_version: bool = False
    activate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The parts that registering needs; the same over HTTP and on the data directory."""

    registry: Registry
    sources: Sources
    blobs: LocalBlobs
    base: BaseModel
    max_rank: int
    max_bytes: int

    def take(self, order: Order) -> tuple[Version, bool]:
        """(version, whether it is new). Raises the AdapterError that says what is wrong and leaves nothing behind."""
        with self.blobs.staging() as work:
            folder = work / "staged"
            folder.mkdir()
            order.stage(self.sources, folder)
            folder, errors = self._converted(folder, work, order)
            manifest = preflight.check(folder, self.base, max_rank=self.max_rank, max_bytes=self.max_bytes)
            if errors:
                manifest = _with_facts(manifest, {"conversion": {"rank": manifest.rank, "relative_error": errors}})
            if order.as_version:
                return self.registry.add_version(
                    order.name, folder, manifest, source=order.source, activate=order.activate
                )
            return self.registry.add(
                order.name, folder, manifest, source=order.source, pin=order.pin, begun=order.begun
            )

    def _converted(self, folder: Path, work: Path, order: Order) -> tuple[Path, dict[str, float]]:
        if not order.convert:
            return folder, {}
        into = work / "converted"
        into.mkdir()
        errors = convert(folder, into, self.base, rank=order.rank)
        shutil.rmtree(folder)
        return into, errors


def from_upload(archive: IO[bytes]) -> Stage:
    """Stage an uploaded .zip or .tar.gz."""
    return lambda sources, into: sources.stage_upload(archive, into)


def from_source(source: str) -> Stage:
    """Stage a local folder, hf:// or another allowed URL."""
    return lambda sources, into: sources.stage(source, into)


def is_remote(source: str) -> bool:
    """Whether fetching it may take long, so that it is answered with 202 and goes on in the background."""
    return "://" in source and not source.startswith("file://")


def _with_facts(manifest: Manifest, facts: dict[str, Any]) -> Manifest:
    return replace(manifest, details={**manifest.details, **facts})
