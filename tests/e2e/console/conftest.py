"""The console in a browser: Debian's chromium, driven by Playwright, on the server that the other tests use too.

A test fails on every error that the page throws or logs, a policy's refusal among them, and on every request that
leaves the server, unless it says that it means it: `console.meant("404")`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.console.opened import ARGUMENTS, DESKTOP, PATIENCE_MS, Console, Watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NO_CHROMIUM = "there is no chromium here: apt-get install chromium fonts-dejavu-core"
NO_PLAYWRIGHT = "playwright is not installed: make setup"


@contextmanager
def _playing(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Playwright's event loop is the thread's, here alone.

    The synchronous API waits inside a loop that it never leaves. As long as the thread shows it, no other loop can run,
    neither an asynchronous test's nor a fixture's.
    """
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One chromium for the whole run."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip(NO_CHROMIUM)
    if importlib.util.find_spec("playwright") is None:
        pytest.skip(NO_PLAYWRIGHT)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    playwright = sync_playwright().start()
    loop = asyncio.get_running_loop()
    browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
    browser.loop = loop  # type: ignore[attr-defined]  # `new_page` needs it, and Playwright does not show its own
    asyncio._set_running_loop(None)
    yield browser
    with _playing(loop):
        browser.close()
        playwright.stop()


@pytest.fixture
def new_console(browser: Browser) -> Iterator[Callable[..., Console]]:
    """Open the console of a server in a browser that knows nothing yet: `new_console(address, locale="pt-BR")`.

    Further words are Playwright's for a new context: `color_scheme="dark"`, `viewport={"width": 400, "height": 800}`.
    """
    opened: list[Console] = []

    def open_console(address: str, *, path: str = "", **options: Any) -> Console:
        context = browser.new_context(**{"locale": "en-GB", "viewport": DESKTOP, **options})
        context.set_default_timeout(PATIENCE_MS)
        watch = Watch(origin=address)
        watch.over(context)
        console = Console(page=context.new_page(), address=address, watch=watch)
        opened.append(console)
        console.page.goto(f"{address}/{path}")
        return console

    with _playing(browser.loop):  # type: ignore[attr-defined]  # as above
        yield open_console
        for console in opened:
            console.page.context.close()
    unmeant = [fault for console in opened for fault in console.watch.unmeant()]
    if unmeant:
        pytest.fail("in the browser: " + "\n".join(unmeant), pytrace=False)


@pytest.fixture
def console(new_console: Callable[..., Console], server: str) -> Console:
    """The console of the shared server, in English, at its first view."""
    console = new_console(server)
    console.page.locator("main h1").first.wait_for()
    return console


@pytest.fixture
def page(console: Console) -> Page:
    """The page that `console` is open in."""
    return console.page


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    console = getattr(item, "funcargs", {}).get("console")
    if report.when == "call" and report.failed and isinstance(console, Console):
        report.sections.append(("what the page showed", console.page.locator("body").aria_snapshot()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was not tried in a browser, and what would change that."""
    here = Path(__file__).parent.relative_to(terminalreporter.config.rootpath).as_posix()
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if report.nodeid.startswith(here)]
    for reason in (NO_CHROMIUM, NO_PLAYWRIGHT):
        count = sum(reason in str(report.longrepr) for report in skipped)
        if count:
            terminalreporter.write_line(
                f"{count} tests of the console in a browser were skipped: {reason}", yellow=True
            )
