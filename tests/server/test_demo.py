"""The demo's adapters come once; what their owner removes or replaces stays so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from server.demo import GUIDE, install_demo
from server.services import Services


@pytest.fixture
def folder(tmp_path: Path, make_adapter: Callable[..., Path]) -> Path:
    demo = tmp_path / "demo"
    (demo / "adapters").mkdir(parents=True)
    for seed, name in enumerate(("pirate", "shout")):
        make_adapter(name, seed=seed).rename(demo / "adapters" / name)
    (demo / "guide.json").write_text(json.dumps({"name": GUIDE, "model": "demo", "instructions": "Be kind."}))
    return demo


def _install(services: Services, folder: Path) -> None:
    install_demo(services.intake, services.assistants, services.settings.data_dir, folder)


async def test_a_first_start_installs_all(services: Services, folder: Path) -> None:
    _install(services, folder)
    assert [adapter.name for adapter in services.registry.list()] == ["pirate", "shout"]
    assert services.assistants.find(GUIDE) is not None


async def test_what_was_removed_does_not_come_back(services: Services, folder: Path) -> None:
    _install(services, folder)
    services.registry.remove("pirate")
    services.assistants.delete(GUIDE)
    _install(services, folder)
    assert [adapter.name for adapter in services.registry.list()] == ["shout"]
    assert services.assistants.find(GUIDE) is None


async def test_a_later_release_s_new_adapter_is_installed(
    services: Services, folder: Path, make_adapter: Callable[..., Path]
) -> None:
    _install(services, folder)
    make_adapter("haiku", seed=9).rename(folder / "adapters" / "haiku")
    _install(services, folder)
    assert "haiku" in [adapter.name for adapter in services.registry.list()]


async def test_the_user_s_own_adapter_of_that_name_stays(
    services: Services, folder: Path, add: Callable[..., object]
) -> None:
    mine = add("pirate", seed=42)
    _install(services, folder)
    assert services.registry.resolve("pirate") == mine
