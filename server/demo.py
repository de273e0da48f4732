"""What comes with the demo base: its adapters, its documents and its guide, installed once and then the user's own.

install_demo(intake, assistants, data_dir, documents=documents)  # on every start; on a first one it installs
await wait_until_searchable(documents, data_dir)  # then the guide can answer from the documents

It may be killed anywhere: what was installed is found again, and only what a finished installation has written down
counts as removed by its owner when it is missing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path

from adapters.errors import AdapterError
from adapters.manifest import digest
from adapters.sources import Sources
from retrieval.errors import StoreNotFound
from server.demo_documents import STORE, DemoDocuments
from server.intake import Intake, Order
from server.settings import DEMO_DIR
from server.storage.assistants import Assistants
from server.threads import run_in

logger = logging.getLogger(__name__)

INSTALLED = "demo-installed.json"  # in the data directory: what was removed by its owner does not come back
GUIDE = "demo-guide"
SEARCHABLE = f"{STORE} searchable"
READING_SECONDS = 120.0
LOOK_SECONDS = 0.05


def install_demo(
    intake: Intake,
    assistants: Assistants,
    data_dir: Path,
    folder: Path = DEMO_DIR,
    *,
    documents: DemoDocuments | None = None,
) -> None:
    """Register what a data directory has not had yet from `folder`: adapters/, documents/ and guide.json."""
    done = _installed(data_dir)
    found = sorted(path for path in (folder / "adapters").iterdir() if (path / "adapter_config.json").is_file())
    for path in found:
        if path.name not in done:
            _install(intake, path)
        elif _is_outdated(intake, path):
            _install(intake, path, as_version=True)
    written = documents.install(folder / "documents", done) if documents else set()
    guide = _guide(folder, intake)
    if GUIDE not in done and assistants.find(GUIDE) is None:
        assistants.create(guide)
    else:
        grounded = not written or bool(done & written)  # before, or never
        _renew(assistants, guide, grounded=grounded, gone=done - {path.name for path in found})
    _write_down(data_dir, {*done, *written, GUIDE, *(path.name for path in found)})


def begin_reading(documents: DemoDocuments, data_dir: Path, folder: Path = DEMO_DIR) -> None:
    """Attach the documents of a first start, so that they are read while the engine loads.

    `install_demo` finds them attached and does the rest; killed in between, the next start finds them too.
    """
    documents.install(folder / "documents", _installed(data_dir))


async def wait_until_searchable(documents: DemoDocuments, data_dir: Path, *, seconds: float = READING_SECONDS) -> None:
    """Return when the documents of a first start have been read; on later starts, at once.

    Gives up after `seconds`, with a warning: a server whose guide has fewer sources is better than none.
    """
    done = await run_in(None, _installed, data_dir)
    if SEARCHABLE in done:
        return
    until = time.monotonic() + seconds
    while await run_in(None, _is_read, documents) is False:
        if time.monotonic() > until:
            logger.warning("the demo documents were not read within %.0f s; %r answers without them", seconds, GUIDE)
            return
        await asyncio.sleep(LOOK_SECONDS)
    await run_in(None, _write_down, data_dir, {*done, SEARCHABLE})


def _is_read(documents: DemoDocuments) -> bool:
    try:
        return documents.are_read()
    except StoreNotFound:  # its owner was quick to delete it
        return True


def _is_outdated(intake: Intake, path: Path) -> bool:
    """Whether a name still means what an earlier release shipped, and this one ships others, for another base."""
    adapter = next((adapter for adapter in intake.registry.list() if adapter.name == path.name), None)
    if adapter is None or {version.source for version in adapter.active} != {_source(path)}:
        return False
    return adapter.having(digest(path)) is None


def _install(intake: Intake, path: Path, *, as_version: bool = False) -> None:
    """Under its name, or as a version to which the name moves."""
    own = Sources(roots=(path.parent,), remotes=(), max_bytes=intake.max_bytes)  # whatever roots the user allows
    order = Order(
        name=path.name,
        source=_source(path),
        stage=lambda _, into: own.stage_folder(path, into),
        as_version=as_version,
        activate=as_version,
    )
    try:
        intake.take(order)
    except AdapterError as error:  # the user's own adapter of that name, say: the server starts all the same
        logger.warning("the demo's adapter %r was not installed: %s", path.name, error)


def _guide(folder: Path, intake: Intake) -> dict[str, object]:
    """The guide's fields; the base itself speaks where its adapter could not be installed."""
    guide: dict[str, object] = json.loads((folder / "guide.json").read_text())
    if not any(adapter.name == guide["model"] for adapter in intake.registry.list()):
        guide["model"] = intake.base.name
    return guide


def _source(path: Path) -> str:
    return f"demo/{path.name}"


def _renew(assistants: Assistants, guide: dict[str, object], *, grounded: bool, gone: set[str]) -> None:
    """Bring a guide of an earlier release up to date, if its owner has left it as it was.

    One from before the documents gets them; one whose adapter is shipped no more speaks by what this release's does.
    """
    old = assistants.find(GUIDE)
    if old is None or old.managed != "api" or old.instructions != guide["instructions"]:
        return
    fields = {"model"} if old.model in gone else set()
    if not grounded and not old.tools:
        fields |= {"tools", "tool_resources", "temperature"}
    if fields:
        assistants.update(GUIDE, {name: guide[name] for name in sorted(fields)})


def _installed(data_dir: Path) -> set[str]:
    marker = data_dir / INSTALLED
    return set(json.loads(marker.read_text())) if marker.is_file() else set()


def _write_down(data_dir: Path, names: set[str]) -> None:
    """As a whole or not at all: half a list would stop the next start."""
    new = data_dir / f"{INSTALLED}.new"
    with new.open("w") as file:
        file.write(json.dumps(sorted(names)))
        file.flush()
        os.fsync(file.fileno())
    new.replace(data_dir / INSTALLED)
