"""What is sent of an adapter on this machine: its two files, or the archive that somebody made of them."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.cli_output import CommandFailed

CONFIG = "adapter_config.json"
ARCHIVES = (".zip", ".tar.gz", ".tgz")


@contextmanager
def packed(path: Path) -> Iterator[Path]:
    """An archive to upload: the file itself when it is one, else one made of the folder. Raises CommandFailed."""
    if path.is_file():
        if not path.name.endswith(ARCHIVES):
            raise CommandFailed(f"{str(path)!r} is no .zip or .tar.gz; give one, or the adapter's folder")
        yield path
        return
    if (path / "model.safetensors").is_file() or (path / "model.safetensors.index.json").is_file():
        raise CommandFailed(
            f"{str(path)!r} is a whole model: make an adapter of it with `manyhats adapters convert {path} --out DIR`, "
            "and add that"
        )
    if not (path / CONFIG).is_file():
        raise CommandFailed(
            f"{str(path)!r} is no adapter: it has no {CONFIG}. Give the folder that peft's save_pretrained wrote"
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "adapter.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:  # weights do not get smaller
            for file in sorted(path.glob("adapter_*")):  # weights as pickle too: the server says why it refuses them
                target.write(file, file.name)
        yield archive
