"""What comes with the demo base: its adapters and its guide, installed once and then the user's own."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from adapters.errors import AdapterError
from adapters.sources import Sources
from server.intake import Intake, Order
from server.settings import DEMO_DIR
from server.storage.assistants import Assistants

logger = logging.getLogger(__name__)

INSTALLED = "demo-installed.json"  # in the data directory: what was removed by its owner does not come back
GUIDE = "demo-guide"


def install_demo(intake: Intake, assistants: Assistants, data_dir: Path, folder: Path = DEMO_DIR) -> None:
    """Register the demo's adapters and assistant on a data directory's first start with the demo base."""
    marker = data_dir / INSTALLED
    done: set[str] = set(json.loads(marker.read_text())) if marker.is_file() else set()
    found = sorted(path for path in (folder / "adapters").iterdir() if (path / "adapter_config.json").is_file())
    for path in found:
        if path.name not in done:
            _install(intake, path)
    if GUIDE not in done and assistants.find(GUIDE) is None:
        assistants.create(json.loads((folder / "guide.json").read_text()))
    marker.write_text(json.dumps(sorted({*done, GUIDE, *(path.name for path in found)})))


def _install(intake: Intake, path: Path) -> None:
    own = Sources(roots=(path.parent,), remotes=(), max_bytes=intake.max_bytes)  # whatever roots the user allows
    order = Order(name=path.name, source=f"demo/{path.name}", stage=lambda _, into: own.stage_folder(path, into))
    try:
        intake.take(order)
    except AdapterError as error:  # the user's own adapter of that name, say: the server starts all the same
        logger.warning("the demo's adapter %r was not installed: %s", path.name, error)
