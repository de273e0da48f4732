"""The adapters that have a figure on a part of their data that is kept from training."""

from __future__ import annotations

from typing import Protocol

from . import banking, objects, sentiment, simpler
from .folder import DataFolder
from .held import Held
from .lora import Plan


class Measured(Protocol):
    """A module of the recipe that says how its adapter is measured."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 -- a module's constant

    def held(self, data: DataFolder) -> Held: ...


class Taught(Measured, Protocol):
    """A module that also says how its adapter is trained."""

    def plan(self, data: DataFolder) -> Plan: ...


TAUGHT: tuple[Taught, ...] = (sentiment, banking, simpler)
MEASURED: tuple[Measured, ...] = (*TAUGHT, objects)  # `json` is trained as a manner
