"""What comes with the demo comes once; what its owner removes or replaces stays so."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from adapters.adapter import Version
from adapters.manifest import digest
from retrieval.attachments import Attachments
from retrieval.files import Files
from retrieval.queue import Queue
from retrieval.stores import Stores
from server.demo import GUIDE, INSTALLED, begin_reading, install_demo, wait_until_searchable
from server.demo_documents import STORE, DemoDocuments
from server.services import Services
from server.settings import DEMO_DIR

GUIDE_FIELDS = {
    "name": GUIDE,
    "model": "demo",
    "instructions": "Be kind.",
    "temperature": 0,
    "tools": [{"type": "file_search"}],
    "tool_resources": {"file_search": {"vector_store_ids": [STORE]}},
}


@pytest.fixture
def folder(tmp_path: Path, make_adapter: Callable[..., Path]) -> Path:
    demo = tmp_path / "demo"
    (demo / "adapters").mkdir(parents=True)
    for seed, name in enumerate(("pirate", "shout")):
        make_adapter(name, seed=seed).rename(demo / "adapters" / name)
    (demo / "documents").mkdir()
    for name in ("hats.md", "keys.md"):
        (demo / "documents" / name).write_text(f"# {name}\n\nThe hat of {name} is red.\n")
    (demo / "guide.json").write_text(json.dumps(GUIDE_FIELDS))
    return demo


@pytest.fixture
def documents(services: Services) -> DemoDocuments:
    return DemoDocuments(
        files=Files(services.database, services.blobs, max_bytes=1_000_000),
        stores=Stores(services.database),
        attachments=Attachments(services.database),
    )


@pytest.fixture
def install(services: Services, folder: Path, documents: DemoDocuments) -> Callable[[], None]:
    """A start of the server."""
    data_dir = services.settings.data_dir
    return partial(install_demo, services.intake, services.assistants, data_dir, folder, documents=documents)


def attached(documents: DemoDocuments) -> list[str]:
    store = documents.stores.find(STORE)[0]
    return sorted(file.filename for file in documents.attachments.list(store.id).items)


def read_all(services: Services) -> None:
    """What the ingestion process does, as far as the demo sees it."""
    queue = Queue(services.database)
    while (job := queue.claim("test")) is not None:
        queue.fail(job, "unsupported_file", "not read in this test")


def test_a_first_start_installs_all(services: Services, install: Callable[[], None], documents: DemoDocuments) -> None:
    install()
    assert [adapter.name for adapter in services.registry.list()] == ["pirate", "shout"]
    guide = services.assistants.find(GUIDE)
    assert guide is not None
    assert guide.vector_store_ids == (STORE,)
    assert attached(documents) == ["hats.md", "keys.md"]
    store = documents.stores.find(STORE)[0]
    assert (store.owner, store.chunking.max_tokens) == ("local", 100)


def test_documents_are_attached_early_and_once(
    services: Services, install: Callable[[], None], documents: DemoDocuments, folder: Path
) -> None:
    begin_reading(documents, services.settings.data_dir, folder)
    assert attached(documents) == ["hats.md", "keys.md"]
    numbers = {file.number for file in documents.attachments.list(documents.stores.find(STORE)[0].id).items}
    install()
    [store] = documents.stores.find(STORE)
    assert {file.number for file in documents.attachments.list(store.id).items} == numbers
    assert len(documents.files.list("local").items) == 2
    documents.stores.delete(store.id)
    begin_reading(documents, services.settings.data_dir, folder)
    assert documents.stores.find(STORE) == []


def test_what_was_removed_does_not_come_back(
    services: Services, install: Callable[[], None], documents: DemoDocuments
) -> None:
    install()
    services.registry.remove("pirate")
    services.assistants.delete(GUIDE)
    hats = next(file for file in documents.files.list("local").items if file.filename == "hats.md")
    documents.files.delete(hats.id, "local")
    install()
    assert [adapter.name for adapter in services.registry.list()] == ["shout"]
    assert services.assistants.find(GUIDE) is None
    assert attached(documents) == ["keys.md"]


def test_a_deleted_store_does_not_come_back(
    install: Callable[[], None], documents: DemoDocuments, folder: Path
) -> None:
    install()
    documents.stores.delete(documents.stores.find(STORE)[0].id)
    (folder / "documents" / "new.md").write_text("# New\n\nA new hat.\n")
    install()
    assert documents.stores.find(STORE) == []


def test_a_later_release_s_new_things_are_installed(
    services: Services,
    install: Callable[[], None],
    documents: DemoDocuments,
    folder: Path,
    make_adapter: Callable[..., Path],
) -> None:
    install()
    make_adapter("haiku", seed=9).rename(folder / "adapters" / "haiku")
    (folder / "documents" / "new.md").write_text("# New\n\nA new hat.\n")
    install()
    assert "haiku" in [adapter.name for adapter in services.registry.list()]
    assert attached(documents) == ["hats.md", "keys.md", "new.md"]


def test_the_user_s_own_adapter_of_that_name_stays(
    services: Services, install: Callable[[], None], add: Callable[..., object]
) -> None:
    mine = add("pirate", seed=42)
    install()
    assert services.registry.resolve("pirate") == mine


@pytest.mark.parametrize("at", ["create", "add", "attach_batch", "marker"])
def test_killed_while_installing_it_installs_each_thing_once(
    services: Services,
    install: Callable[[], None],
    documents: DemoDocuments,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    """Whatever the last thing was that reached the disk."""
    with monkeypatch.context() as patch:
        if at == "marker":
            patch.setattr("server.demo._write_down", _dying(lambda *_: None))
        else:
            owner = {"create": Stores, "add": Files, "attach_batch": Attachments}[at]
            patch.setattr(owner, at, _dying(getattr(owner, at)))
        with pytest.raises(KeyboardInterrupt):
            install()
    install()
    assert attached(documents) == ["hats.md", "keys.md"]
    assert sorted(file.filename for file in documents.files.list("local").items) == ["hats.md", "keys.md"]
    assert len(documents.stores.find(STORE)) == 1
    assert services.assistants.find(GUIDE) is not None


def _dying(act: Callable[..., object]) -> Callable[..., object]:
    def once(*given: object, **named: object) -> object:
        act(*given, **named)
        raise KeyboardInterrupt

    return once


@pytest.mark.parametrize(("own_words", "grounded"), [("Be kind.", True), ("Be curt.", False)])
def test_a_guide_from_before_the_documents_gets_them_unless_it_was_changed(
    services: Services, install: Callable[[], None], own_words: str, grounded: bool
) -> None:
    services.assistants.create({"name": GUIDE, "model": "demo", "instructions": own_words})
    (services.settings.data_dir / INSTALLED).write_text(json.dumps([GUIDE, "pirate", "shout"]))
    install()
    guide = services.assistants.find(GUIDE)
    assert guide is not None
    assert guide.vector_store_ids == ((STORE,) if grounded else ())


def test_a_later_release_s_weights_are_a_version_that_the_name_moves_to(
    services: Services, install: Callable[[], None], folder: Path, make_adapter: Callable[..., Path]
) -> None:
    install()
    old = services.registry.resolve("pirate")
    other = services.registry.resolve("shout")
    shutil.rmtree(folder / "adapters" / "pirate")
    make_adapter("pirate", seed=9).rename(folder / "adapters" / "pirate")
    install()
    new = services.registry.resolve("pirate")
    assert new.digest == digest(folder / "adapters" / "pirate")
    assert [version.id for version in services.registry.get("pirate").versions] == [old.id, new.id]
    assert services.registry.resolve("shout") == other
    services.registry.move_alias("pirate", old.id)  # the owner likes it better
    install()
    assert services.registry.resolve("pirate") == old


def test_a_later_release_s_weights_leave_a_name_alone_that_its_owner_has_moved(
    services: Services,
    install: Callable[[], None],
    folder: Path,
    make_adapter: Callable[..., Path],
    add: Callable[..., Version],
) -> None:
    install()
    mine = add("pirate", seed=42, as_version=True, activate=True)
    shutil.rmtree(folder / "adapters" / "pirate")
    make_adapter("pirate", seed=9).rename(folder / "adapters" / "pirate")
    install()
    assert services.registry.resolve("pirate") == mine
    assert len(services.registry.get("pirate").versions) == 2


@pytest.mark.parametrize(("own_words", "as_it_was"), [("Be kind.", True), ("Be curt.", False)])
def test_a_guide_whose_adapter_is_shipped_no_more_speaks_by_another(
    services: Services, install: Callable[[], None], folder: Path, own_words: str, as_it_was: bool
) -> None:
    (folder / "guide.json").write_text(json.dumps({**GUIDE_FIELDS, "model": "pirate"}))
    install()
    services.assistants.update(GUIDE, {"instructions": own_words})
    (folder / "guide.json").write_text(json.dumps(GUIDE_FIELDS))
    shutil.rmtree(folder / "adapters" / "pirate")
    install()
    guide = services.assistants.find(GUIDE)
    assert guide is not None
    assert guide.model == (services.intake.base.name if as_it_was else "pirate")
    assert guide.vector_store_ids == (STORE,)
    assert services.registry.resolve("pirate")  # somebody may use it still


async def test_a_first_start_waits_until_the_documents_are_read(
    services: Services, install: Callable[[], None], documents: DemoDocuments
) -> None:
    install()
    waiting = asyncio.create_task(wait_until_searchable(documents, services.settings.data_dir))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    read_all(services)
    await asyncio.wait_for(waiting, 5)


async def test_later_starts_do_not_wait(
    services: Services, install: Callable[[], None], documents: DemoDocuments
) -> None:
    install()
    read_all(services)
    await wait_until_searchable(documents, services.settings.data_dir)
    file = next(iter(documents.files.list("local").items))
    other = documents.stores.find(STORE)[0]
    documents.attachments.detach(other.id, file.id)
    documents.attachments.attach(other.id, file.id)  # the user's doing: in progress again
    install()
    await asyncio.wait_for(wait_until_searchable(documents, services.settings.data_dir), 5)


async def test_a_start_without_an_ingestion_process_goes_on_with_a_warning(
    services: Services, install: Callable[[], None], documents: DemoDocuments, caplog: pytest.LogCaptureFixture
) -> None:
    install()
    await wait_until_searchable(documents, services.settings.data_dir, seconds=0)
    assert "were not read within" in caplog.text


def test_the_shipped_documents_install(services: Services, documents: DemoDocuments, tmp_path: Path) -> None:
    copied = shutil.copytree(DEMO_DIR / "documents", tmp_path / "documents")
    names = documents.install(copied, ())
    assert {f"documents/{name}" for name in attached(documents)} == names
    assert len(names) >= 6
