"""`manyhats eval`: the base and an adapter's versions over the same examples, computed here, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapters.adapter import Version
from adapters.base_model import BaseModel
from adapters.errors import AdapterNotFound
from adapters.registry import Registry
from adapters.training.method import Kind
from server.blobs import open_blobs
from server.boot import model_folder
from server.settings import Settings, load_settings
from server.storage.database import Database
from server.training_device import choose_device


def compare(name: str, file: Path, kind: Kind, *, most: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, what was measured) of the base, then of each version in the order they came; each as soon as it is known.

    name: an adapter, for all of its versions, or `<adapter>@<prefix>` for one. most: examples, evenly taken.

    Raises AdapterError for a name that is none and for a file that cannot be used, ValueError for a base that cannot
    be read.
    """
    settings = load_settings()
    base = replace(BaseModel.read(settings.model, cache=settings.base_cache_dir), name=settings.base_name)
    folder = model_folder(settings)
    device = choose_device(settings.training_device, alone=False)  # before torch is loaded
    from adapters.training.evaluation import evaluate
    from adapters.training.quiet import quiet

    with TemporaryDirectory() as work, quiet(Path(work)):
        for shown, adapter in [(base.name, None), *_versions(settings, base, name)]:
            found = evaluate(folder, adapter, file, kind, context_tokens=base.context_tokens, device=device, most=most)
            yield shown, found.as_object()


def _versions(settings: Settings, base: BaseModel, name: str) -> list[tuple[str, Path]]:
    with closing(Database(settings.sql_url)) as database:
        database.migrate()
        registry = Registry(
            database,
            open_blobs(settings),
            base_name=base.name,
            base_fingerprint=base.fingerprint,
        )
        try:
            one: Version = registry.resolve(name)
        except AdapterNotFound as error:  # most often the server, whose adapters are meant, has another data directory
            place = f"{error}; looked for in the data directory {str(settings.data_dir)!r} (MANYHATS_DATA_DIR)"
            raise AdapterNotFound(place) from None
        wanted = registry.get(one.adapter).versions if name == one.adapter else (one,)
        return [(version.id, registry.path(version)) for version in wanted if not version.error]
