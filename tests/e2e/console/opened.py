"""The console, opened in a page, and what went wrong in it meanwhile."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

ARGUMENTS = (
    "--no-sandbox",  # root has none in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 20_000  # a model answers in this time on a busy machine
DESKTOP = {"width": 1280, "height": 800}


@dataclass(slots=True)
class Watch:
    """What went wrong in the pages of one test, and which of it was meant."""

    origin: str
    faults: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Take down what happens in each page of this context from now on."""
        context.on("weberror", lambda thrown: self.faults.append(f"page error: {thrown.error}"))
        context.on("console", lambda said: said.type == "error" and self.faults.append(f"console: {_told(said)}"))
        context.on("request", lambda request: self.leaves(request.url) and self.faults.append(f"left: {request.url}"))

    def unmeant(self) -> list[str]:
        """The faults that no pattern covers."""
        return [fault for fault in self.faults if not any(re.search(pattern, fault) for pattern in self.patterns)]

    def leaves(self, url: str) -> bool:
        """Whether a request goes somewhere else than to the server."""
        return not url.startswith((f"{self.origin}/", "data:", "blob:", "about:"))


def _told(said: Any) -> str:
    return f"{said.text} ({said.location.get('url', '')})"


@dataclass(frozen=True, slots=True)
class Console:
    """The console, opened in one page."""

    page: Page
    address: str
    watch: Watch

    def go(self, path: str = "chat") -> Page:
        """Show a view: `knowledge/vs_1`. It is there when its heading is."""
        self.page.goto(f"{self.address}/#/{path}")
        self.page.locator("main h1").first.wait_for()
        return self.page

    @property
    def menu(self) -> Locator:
        """The names of the views."""
        return self.page.get_by_role("navigation").first

    def meant(self, *patterns: str) -> None:
        """Errors like these belong to the test: `console.meant("404")`."""
        self.watch.patterns.extend(patterns)
