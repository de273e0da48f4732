"""The page speaks the browser's language, and the one that the reader chooses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.console.opened import Console

VIEWS = ("chat", "compare", "adapters", "jobs", "assistants", "knowledge", "load")
PORTUGUESE = ["Conversa", "Comparar", "Adaptadores", "Treinos", "Assistentes", "Conhecimento", "Carga"]


@pytest.mark.parametrize(("locale", "first"), [("pt-BR", "Conversa"), ("pt-PT", "Conversa"), ("de-DE", "Chat")])
def test_the_browser_s_language(new_console: Callable[..., Console], server: str, locale: str, first: str) -> None:
    console = new_console(server, locale=locale)
    console.page.locator("main h1").first.wait_for()
    assert console.menu.get_by_role("link").first.inner_text() == first
    assert console.page.locator("html").get_attribute("lang") == ("pt-BR" if first == "Conversa" else "en")


def test_every_view_in_portuguese(new_console: Callable[..., Console], server: str) -> None:
    console = new_console(server, locale="pt-BR")
    console.page.locator("main h1").first.wait_for()
    assert console.menu.get_by_role("link").all_inner_texts() == PORTUGUESE
    for view, title in zip(VIEWS, PORTUGUESE, strict=True):
        console.go(view)
        assert console.page.title() == f"{title} · Manyhats"


def test_the_choice_is_kept(console: Console) -> None:
    console.page.get_by_label("Language").select_option("pt")
    assert console.menu.get_by_role("link").all_inner_texts() == PORTUGUESE
    console.page.reload()
    console.page.locator("main h1").first.wait_for()
    assert console.menu.get_by_role("link").all_inner_texts() == PORTUGUESE
