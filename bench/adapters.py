"""Many adapters of the demo's size: copies of one, each scaled a little, so that each is a version of its own.

python -m bench.adapters FOLDER NAME...      # register these folders below FOLDER where MANYHATS_… say
"""

from __future__ import annotations

import argparse
import io
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from server.intake import Intake, Order, from_source
from server.offline import Offline
from server.settings import DEMO_DIR, Settings, load_settings


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


def archive(folder: Path) -> bytes:
    """An adapter's folder as a .zip, to be uploaded."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for file in sorted(folder.iterdir()):
            packed.write(file, file.name)
    return content.getvalue()


def main() -> None:
    """Register as another server would."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("names", nargs="+", metavar="NAME")
    chosen = arguments.parse_args()
    register(load_settings(), chosen.folder, chosen.names)


if __name__ == "__main__":
    main()
