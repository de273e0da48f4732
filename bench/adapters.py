"""Many adapters of the demo's size: copies of one, each scaled a little, so that each is a version of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from server.settings import DEMO_DIR


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
