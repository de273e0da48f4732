"""What proofs of replicas start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server.settings import load_settings

N_ADAPTERS = 8


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Folders of as many adapters, and their names."""
    from bench.adapters import make_copies  # imports torch, which most proofs do without

    folder = tmp_path_factory.mktemp("adapters")
    return folder, make_copies(N_ADAPTERS, folder)


@pytest.fixture
def prepared(tmp_path: Path, adapters: tuple[Path, list[str]], embedder_cache: Path) -> Callable[[str], Path]:
    """Makes a folder whose data directory has the adapters, and the embedder as it was converted before."""

    from bench.adapters import register

    def prepare(name: str) -> Path:
        folder = tmp_path / name
        (folder / "data" / "cache").mkdir(parents=True)
        (folder / "data" / "cache" / "embedder").symlink_to(embedder_cache)
        told = {"MANYHATS_DATA_DIR": str(folder / "data"), "MANYHATS_ADAPTER_ROOTS": str(adapters[0])}
        register(load_settings(told), *adapters)
        return folder

    return prepare
