"""Many adapters of the demo's size: copies of one, each scaled a little, so that each is a version of its own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from server.intake import Intake, Order, from_source
from server.offline import Offline
from server.settings import DEMO_DIR, Settings


def make_copies(n_copies: int, into: Path, *, of: str = "pirate", stem: str = "copy") -> list[str]:
    """Write the adapters `<stem>-0000`… into folders of these names and return the names."""
    source = DEMO_DIR / "adapters" / of
    weights = load_file(source / "adapter_model.safetensors")
    names = [f"{stem}-{number:04}" for number in range(n_copies)]
    for number, name in enumerate(names):
        folder = into / name
        folder.mkdir(parents=True)
        shutil.copy(source / "adapter_config.json", folder)
        factor = 1 - number / (2 * n_copies)  # from the whole effect down to half of it
        scaled = {key: value * factor if "lora_B" in key else value for key, value in weights.items()}
        save_file(scaled, folder / "adapter_model.safetensors")
    return names


def register(settings: Settings, folder: Path, names: Sequence[str]) -> None:
    """Register these folders on a data directory that no server holds, by the way that uploads go."""
    with Offline(settings) as offline:
        intake: Intake = offline.app.state.services.intake
        for name in names:
            source = str(folder / name)
            intake.take(Order(name=name, source=source, stage=from_source(source)))
