"""On a server with keys: the page waits for the engine, asks for a key, and shows what the key may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.keyed import ADMIN, INFERENCE, keyed_server
from tests.e2e.console.opened import Console

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

ALL = ["Chat", "Compare", "Adapters", "Jobs", "Assistants", "Knowledge", "Load"]
FOR_ADMINS = ["Adapters", "Jobs", "Assistants"]
START_MS = 120_000


@pytest.fixture(scope="module")
def keyed(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with keyed_server(tmp_path_factory.mktemp("keyed")) as address:
        yield address


@pytest.fixture
def locked(new_console: Callable[..., Console], keyed: str) -> Console:
    """The console before it has a key."""
    console = new_console(keyed)
    console.meant("503", "401")
    dialog(console).wait_for(timeout=START_MS)
    return console


def dialog(console: Console) -> Locator:
    return console.page.get_by_role("dialog", name="This server asks for a key")


def give(console: Console, key: str) -> None:
    dialog(console).get_by_label("API key").fill(key)
    dialog(console).get_by_role("button", name="Open").click()


def test_it_opens_by_itself_where_it_was_asked_for_once_the_engine_is_there(
    new_console: Callable[..., Console], keyed: str
) -> None:
    """First of this file: a browser that comes while the server starts."""
    console = new_console(keyed, path="#/knowledge")
    console.meant("503", "401")
    dialog(console).wait_for(timeout=START_MS)
    assert console.page.url == f"{keyed}/#/knowledge"


def test_nothing_is_shown_without_a_key(locked: Console) -> None:
    assert locked.page.locator("main h1").count() == 0
    assert locked.page.get_by_role("dialog").get_by_role("alert").count() == 0


def test_a_wrong_key_is_refused_with_the_reason(locked: Console) -> None:
    give(locked, "not-a-key-of-this-server")
    refused = dialog(locked).get_by_role("alert")
    refused.wait_for()
    assert "this API key is unknown, expired or revoked" in refused.inner_text()
    assert "invalid_api_key" in refused.inner_text()
    give(locked, ADMIN)
    locked.page.get_by_role("heading", level=1).wait_for()


def test_an_admin_sees_all(locked: Console) -> None:
    give(locked, ADMIN)
    locked.page.get_by_role("heading", level=1).wait_for()
    assert locked.menu.get_by_role("link").all_inner_texts() == ALL
    for name in FOR_ADMINS:
        locked.menu.get_by_role("link", name=name).click()
        locked.page.get_by_role("heading", level=1, name=name).wait_for()


def test_an_inference_key_sees_no_admin_s_views(locked: Console) -> None:
    give(locked, INFERENCE)
    locked.page.get_by_role("heading", level=1).wait_for()
    assert locked.menu.get_by_role("link").all_inner_texts() == [name for name in ALL if name not in FOR_ADMINS]
    for name in FOR_ADMINS:
        locked.page.goto(f"{locked.address}/#/{name.lower()}")
        locked.page.get_by_text("This page needs an admin key.").wait_for()
    for name in ("compare", "knowledge", "load", "chat"):
        locked.go(name)
    assert locked.page.get_by_role("main").get_by_role("alert").count() == 0


def test_the_key_stays_with_the_tab_and_can_be_forgotten(locked: Console) -> None:
    give(locked, INFERENCE)
    locked.page.get_by_role("heading", level=1).wait_for()
    locked.page.reload()
    locked.page.get_by_role("heading", level=1).wait_for()
    other = locked.page.context.new_page()
    other.goto(locked.address)
    other.get_by_role("dialog").wait_for()
    other.close()
    locked.page.get_by_role("button", name="Use another key").click()
    locked.page.get_by_role("button", name="Forget the key").click()
    dialog(locked).wait_for()


def test_a_page_that_takes_the_place_of_the_tab_cannot_be_framed(locked: Console) -> None:
    policy = locked.page.request.get(locked.address).headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
