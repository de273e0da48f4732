"""Open WebUI in a browser, on the served demo: answers stream in, and their sources are shown under the right numbers.

    OPEN_WEBUI=/path/to/venv/bin/open-webui python -m pytest -m prove tests/prove/test_open_webui.py

What it sends is replayed without it in tests/e2e/test_open_webui.py.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.servers import ours
from tests.prove.open_webui import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.prove, pytest.mark.engine]

PROGRAM = os.environ.get("OPEN_WEBUI", "")
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
PATIENCE_MS = 30_000
GUIDE = "The demo's guide: answers from the demo documents"  # the description of `demo-guide`


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser's page on Open WebUI, which is connected to the demo; its address is the page's base."""
    if not shutil.which(PROGRAM):
        pytest.skip("OPEN_WEBUI names no program: pip install open-webui into an environment of its own")
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: make setup")
    from playwright.sync_api import expect, sync_playwright

    folder = tmp_path_factory.mktemp("front-end")
    server = ours({}, folder=folder)
    try:
        with (
            served(Path(PROGRAM), f"http://127.0.0.1:{server.port}", folder / "open-webui") as address,
            sync_playwright() as playwright,
        ):
            expect.set_options(timeout=PATIENCE_MS)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            context = browser.new_context(base_url=address, locale="en-US")
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            page.goto("/")
            page.get_by_role("button", name="Okay, Let's Go!").click()  # what is new in it, told once
            yield page
            browser.close()
    finally:
        server.stop()


def ask(page: Page, question: str, model: str = "demo-guide") -> None:
    """In a new chat."""
    page.goto(f"/?models={model}")
    page.locator("#chat-input").click()
    page.keyboard.type(question)
    page.keyboard.press("Enter")


def open_sources(page: Page, n_sources: int) -> list[str]:
    """The lines that it lists under the answer, opened."""
    page.get_by_role("button", name=f"Toggle {n_sources} sources").click()
    lines = page.get_by_role("button", name=re.compile(r"^View source: \d"))
    lines.first.wait_for()
    return [" ".join(text.split()) for text in lines.all_inner_texts()]


def test_an_answer_streams_in_and_shows_its_sources(page: Page) -> None:
    from playwright.sync_api import expect

    ask(page, "When does Brisa Bikes open?")
    answer = page.locator("#messages-container")
    expect(answer).to_contain_text("The shop of Brisa Bikes opens at nine o'clock")
    expect(answer).to_contain_text(GUIDE)
    expect(page.get_by_role("button", name="View source: brisa-handbook.md", exact=True)).to_be_visible()
    lines = open_sources(page, 3)
    assert lines[0] == "1 brisa-handbook.md"
    page.get_by_role("button", name="View source: 1 brisa-handbook.md").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("nine")
    expect(dialog.get_by_role("link", name="brisa-handbook.md")).to_have_attribute(
        "href", re.compile(r"/v1/files/file-\w+/content$")
    )


def test_an_answer_that_cites_the_second_source_alone(page: Page) -> None:
    from playwright.sync_api import expect

    ask(page, "Quem assina os contratos?")
    expect(page.locator("#messages-container")).to_contain_text("Marta Leal")
    marker = page.get_by_role("button", name="View source: brisa-manual.pt.md", exact=True)
    expect(marker).to_be_visible()
    assert len(open_sources(page, 3)) == 3
    marker.click()
    expect(page.get_by_role("dialog")).to_contain_text("contratos")


def test_a_model_without_sources_shows_none(page: Page) -> None:
    from playwright.sync_api import expect

    ask(page, "Hello!", model="pirate")
    expect(page.get_by_role("button", name="Good Response").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Toggle .* source"))).to_have_count(0)


def test_sources_outlive_the_page(page: Page) -> None:
    """They are kept with the chat, and shown again when it is opened."""
    from playwright.sync_api import expect

    ask(page, "How much is the Vento?")
    toggle = page.get_by_role("button", name="Toggle 3 sources")
    expect(toggle).to_be_visible()
    expect(page).to_have_url(re.compile("/c/"))
    expect(page.get_by_role("button", name="Good Response").first).to_be_visible()
    page.reload()
    expect(toggle).to_be_visible()
