"""How bytes become a registered version: staged, converted or mixed where asked, checked, stored, and only then named.

Synchronous: runs in the adapter pool. The engine sees nothing of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from adapters import preflight
from adapters.adapter import Version
from adapters.base_model import BaseModel
from adapters.convert import convert
from adapters.errors import AdapterNotFound, AdapterRefused
from adapters.factoring import Target
from adapters.manifest import Manifest
from adapters.mix import Ingredient, Method, Recipe, mix
from adapters.registry import Registry
from adapters.sources import Sources
from server.storage.blob_store import BlobStore

Stage = Callable[[Sources, Path], None]
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixOrder:
    """What to mix: names or version ids with their weights."""

    adapters: Mapping[str, float]
    method: Method
    density: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to register, under which name, and what to do with it first."""

    name: str
    source: str  # as it is shown to admins: "upload", a folder or a URL
    stage: Stage
    pin: bool = False
    convert: bool = False  # make a plain LoRA of it first, as exactly as the rank allows
    rank: int | None = None  # the rank to cut to; None keeps it, or takes the largest that is served
    error: float | None = None  # or the least rank with at most this relative error of each module
    mix: MixOrder | None = None  # in place of a source
    begun: bool = False  # the name was taken before the bytes were fetched
    as_version: bool = False
    activate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The parts that registering needs; the same over HTTP and on the data directory."""

    registry: Registry
    sources: Sources
    blobs: BlobStore
    base: BaseModel
    max_rank: int
    max_bytes: int
    prompt_tuning: bool = False  # whether soft prompts are taken

    def take(self, order: Order) -> tuple[Version, bool]:
        """(version, whether it is new). Raises the AdapterError that says what is wrong and leaves nothing behind."""
        with self.blobs.staging() as work:
            if order.mix is not None:
                recipe = self._recipe(order.mix, self._target(order))
                order = replace(order, source=str(recipe))
                folder, facts = self._mixed(recipe, work)
            else:
                folder, facts = self._staged(order, work)
            manifest = preflight.check(
                folder,
                self.base,
                max_rank=self.max_rank,
                max_bytes=self.max_bytes,
                prompt_tuning=self.prompt_tuning,
            )
            return self._registered(order, folder, _with_facts(manifest, facts))

    def _registered(self, order: Order, folder: Path, manifest: Manifest) -> tuple[Version, bool]:
        if order.as_version:
            return self.registry.add_version(order.name, folder, manifest, source=order.source, activate=order.activate)
        return self.registry.add(order.name, folder, manifest, source=order.source, pin=order.pin, begun=order.begun)

    def _target(self, order: Order) -> Target:
        return Target(rank=order.rank, error=order.error, limit=self.max_rank)

    def _staged(self, order: Order, work: Path) -> tuple[Path, Facts]:
        folder = work / "staged"
        folder.mkdir()
        order.stage(self.sources, folder)
        if not order.convert:
            return folder, {}
        into = work / "converted"
        into.mkdir()
        converted = convert(folder, into, self.base, self._target(order))
        shutil.rmtree(folder)
        return into, {"conversion": converted.facts}

    def _recipe(self, order: MixOrder, target: Target) -> Recipe:
        ingredients = []
        for name, weight in order.adapters.items():
            version = self.registry.resolve(name)
            if name == version.adapter and len(self.registry.get(name).active) > 1:
                raise AdapterRefused(
                    "bad_mix", f"{name!r} means several versions now; name the one to mix, such as {version.id}"
                )
            if version.is_soft_prompt:
                raise AdapterRefused("bad_mix", f"{version.id} is a soft prompt, which cannot be mixed; name LoRAs")
            ingredients.append(Ingredient(version=version.id, digest=version.digest, weight=weight))
        return Recipe(
            ingredients=tuple(ingredients), method=order.method, density=order.density, seed=order.seed, target=target
        )

    def _mixed(self, recipe: Recipe, work: Path) -> tuple[Path, Facts]:
        """Built, or taken from a version of any name that the same recipe made."""
        into = work / "mixed"
        made = self._made_before(recipe)
        if made is not None:
            _link(self.registry.path(made), into)
            return into, {key: made.details[key] for key in ("mix", "conversion")}
        folders = []
        for i, ingredient in enumerate(recipe.ingredients):
            folders.append(work / f"ingredient-{i}")
            _link(self.registry.path(self.registry.resolve(ingredient.version)), folders[-1])
        into.mkdir()
        converted = mix(folders, into, recipe)
        return into, {"mix": {**recipe.facts, "recipe": recipe.digest}, "conversion": converted.facts}

    def _made_before(self, recipe: Recipe) -> Version | None:
        for adapter in self.registry.list():
            for version in adapter.versions:
                if version.error is None and version.details.get("mix", {}).get("recipe") == recipe.digest:
                    return version
        return None


def from_upload(archive: IO[bytes]) -> Stage:
    """Stage an uploaded .zip or .tar.gz."""
    return lambda sources, into: sources.stage_upload(archive, into)


def from_source(source: str, *, convert: bool = False) -> Stage:
    """Stage a local folder, hf:// or another allowed URL; to convert, a local folder with a whole model too."""

    def stage(sources: Sources, into: Path) -> None:
        if not (convert and sources.stage_checkpoint(source, into)):
            sources.stage(source, into)

    return stage


def from_nothing(_sources: Sources, _into: Path) -> None:
    """Stage nothing: a mix is made of what is there."""
    raise AdapterNotFound("a mix has no source")


def is_remote(source: str) -> bool:
    """Whether fetching it may take long, so that it is answered with 202 and goes on in the background."""
    return "://" in source and not source.startswith("file://")


def _link(folder: Path, into: Path) -> None:
    """The folder's files under another name: its version may be removed meanwhile."""
    into.mkdir()
    for file in folder.iterdir():
        os.link(file, into / file.name)


def _with_facts(manifest: Manifest, facts: Facts) -> Manifest:
    told = dict(facts)
    if "conversion" in told:
        told["conversion"] = {"rank": manifest.rank, **told["conversion"]}
    return replace(manifest, details={**manifest.details, **told})
