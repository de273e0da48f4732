"""`manyhats adapters convert`: from a folder on this machine to a folder on this machine, without a server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters import preflight
from adapters.archive import unpack
from adapters.base_model import BaseModel
from adapters.convert import convert
from adapters.errors import AdapterError
from adapters.factoring import LARGEST_RANK, Target
from server.cli_output import CommandFailed
from server.settings import load_settings


def convert_folder(source: Path, out: Path, *, rank: int | None, error: float | None) -> dict[str, Any]:
    """Write a plain LoRA of the source to `out`, checked as a server would check it, and tell what was done.

    Raises CommandFailed; then there is no `out`.
    """
    if out.exists():
        raise CommandFailed(f"{str(out)!r} is there already; name a new folder")
    if not source.exists():
        raise CommandFailed(f"there is no {str(source)!r}; give an adapter's folder or archive, or a model's folder")
    settings = load_settings()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        base = BaseModel.read(settings.model)
        with _folder(source, settings.max_adapter_bytes) as folder, tempfile.TemporaryDirectory(dir=out.parent) as name:
            into = Path(name) / "converted"
            into.mkdir()
            target = Target(rank=rank, error=error, limit=settings.max_rank)
            converted = convert(folder, into, base, target)
            most = max(LARGEST_RANK, rank or 0)  # another server may take more than this one's settings
            manifest = preflight.check(into, base, max_rank=most, max_bytes=settings.max_adapter_bytes)
            into.rename(out)
    except (AdapterError, ValueError) as failed:
        raise CommandFailed(str(failed)) from failed
    facts = {"out": str(out), **converted.facts, "rank": manifest.rank, "bytes": manifest.size_bytes}
    if manifest.rank > settings.max_rank:
        facts["note"] = f"MANYHATS_MAX_RANK is {settings.max_rank} here: a server with it would refuse this rank"
    return facts


@contextmanager
def _folder(source: Path, max_bytes: int) -> Iterator[Path]:
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as name:
        unpack(source, Path(name), max_bytes)
        yield Path(name)
