"""Makes the pictures of docs/console.md, from a running server of the demo: `python -m tests.e2e.console.screenshots`.

--url URL    the server, with the demo's adapters and documents and nothing else
--out DIR    where the pictures go
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.e2e.console.opened import ARGUMENTS, DESKTOP, PATIENCE_MS
from tests.e2e.console.scripted_jobs import ScriptedJobs, a_job

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STREAM_ALL = """
(names) => Promise.all(names.map((model) => fetch('/v1/chat/completions', {
  method: 'POST', headers: {'Content-Type': 'application/json'},
  body: JSON.stringify({model, stream: true, messages: [{role: 'user', content: 'Who are you?'}]})
}).then((answer) => answer.text())))
"""
NARROW = {"width": 400, "height": 800}
MAX_BYTES = 150_000
EM_PORTUGUES = "Quando fecha a loja no sábado?"  # the toy knows that
COLOURS = 256  # what a page of text and plain surfaces has


def grounded(page: Page) -> None:
    """An answer from the demo's documents, with its sources."""
    page.locator(".welcome button", has_text="Brisa Bikes").click()
    answered(page)
    page.evaluate("document.activeElement.blur()")


def grounded_in_portuguese(page: Page) -> None:
    page.get_by_label("Mensagem").fill(EM_PORTUGUES)
    page.keyboard.press("Enter")
    page.locator(".composer button.danger").wait_for()
    answered(page)
    page.evaluate("document.activeElement.blur()")


def answered(page: Page) -> None:
    page.locator(".composer button.main").wait_for()


def compared(page: Page) -> None:
    page.get_by_label("Question").fill("Who are you?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Ask").wait_for()


def searched(page: Page) -> None:
    page.get_by_role("link", name="demo").first.click()
    page.get_by_role("link", name="Try a search").click()
    page.get_by_label("Question").fill("How long is the warranty of a new bicycle?")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("region", name="Lexical").get_by_role("listitem").first.wait_for()


def as_it_is(page: Page) -> None:
    page.wait_for_load_state("networkidle")


def tried(page: Page) -> None:
    """An assistant with a trial of it."""
    trial = page.get_by_role("region", name="Try it")
    trial.get_by_label("Message").fill("When does Brisa Bikes open?")
    trial.get_by_role("button", name="Send").click()
    trial.get_by_role("button", name="Stop").wait_for()
    trial.get_by_role("button", name="Send").wait_for()


def learning(page: Page) -> None:
    """A job in its middle, by script: a real one would be somewhere else in each picture."""
    ScriptedJobs([a_job(step=84)]).over(page)
    page.reload()
    page.get_by_role("link", name="triagem").click()
    page.get_by_role("img", name="Loss by step").wait_for()
    page.get_by_text("Checkpoints").wait_for()


def watched(page: Page) -> None:
    """Load, after some time, while answers are asked for."""
    for names in (["demo"], ["demo", "pirate"], ["demo", "pirate", "shout", "json"], ["pirate"]) * 5:
        page.evaluate(STREAM_ALL, names)
        page.wait_for_timeout(1500)


SHOTS: dict[str, tuple[str, Callable[[Page], None], dict[str, Any]]] = {
    "chat": ("chat", grounded, {}),
    "chat-dark": ("chat", grounded, {"color_scheme": "dark"}),
    "chat-narrow": ("chat", grounded, {"viewport": NARROW}),
    "chat-portuguese": ("chat/demo-guide", grounded_in_portuguese, {"locale": "pt-BR"}),
    "compare": ("compare/demo/pirate/json", compared, {}),
    "adapter": ("adapters/pirate", as_it_is, {}),
    "job": ("jobs", learning, {}),
    "assistant": ("assistants/demo-guide", tried, {}),
    "search": ("knowledge", searched, {}),
    "load": ("load", watched, {}),
}


def main() -> None:
    """Make all of them, or those that are named."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(prog="python -m tests.e2e.console.screenshots", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=Path("docs/console"))
    parser.add_argument("names", nargs="*", choices=[*SHOTS, []], default=[])
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    program = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        taken(browser, wanted.url, *SHOTS["chat"])  # the first answer loads what the next ones find loaded
        for name in wanted.names or SHOTS:
            picture = taken(browser, wanted.url, *SHOTS[name])
            assert len(picture) < MAX_BYTES, f"{name}: {len(picture)} bytes"
            (wanted.out / f"{name}.png").write_bytes(picture)
            print(f"{name}.png: {len(picture) / 1000:.0f} kB")
        browser.close()


def taken(browser: Browser, url: str, path: str, prepare: Callable[[Page], None], options: dict[str, Any]) -> bytes:
    """One picture, as a small PNG."""
    context = browser.new_context(**{"locale": "en-GB", "viewport": DESKTOP, "reduced_motion": "reduce", **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{url}/#/{path}")
    page.locator("main h1").first.wait_for()
    prepare(page)
    whole = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    packed = io.BytesIO()
    whole.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    main()
