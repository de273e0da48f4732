"""Every view for everybody: no serious fault that axe knows, all by keyboard, nothing to scroll sideways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.console.opened import Console
from tests.e2e.console.scripted_jobs import ScriptedJobs, a_job, done
from tests.e2e.library import FERRY, Library

State = Callable[[Console, Library], None]

WIDTHS = (1280, 400)
NARROWEST = 360
THEMES = ("light", "dark")

AXE = """
async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter((found) => ['serious', 'critical'].includes(found.impact))
  .map((found) => `${found.id} (${found.impact}): ` + found.nodes.slice(0, 3).map((node) => node.html + ' ' +
    node.any.map((check) => check.message).join('; ')).join(' | '))
"""
TOO_WIDE = """
() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll('body *')]
    .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
    .map((one) => one.outerHTML.slice(0, 120))
"""
WATCH_FOCUS = """
() => {
  window.reached = new Set([document.activeElement]);
  document.addEventListener('focusin', (event) => window.reached.add(event.target));
  document.activeElement?.blur();
}
"""
OPERABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"
UNREACHED = f"""
() => [...(document.querySelector('dialog[open]') ?? document).querySelectorAll(`{OPERABLE}`)]
  .filter((one) => one.checkVisibility({{visibilityProperty: true}}) && !one.disabled && one.tabIndex >= 0)
  .filter((one) => !(one.type === 'radio' && [...window.reached].some((other) => other.name === one.name)))
  .filter((one) => !window.reached.has(one))
  .map((one) => one.outerHTML.slice(0, 160))
"""
COUNT = f"() => document.querySelectorAll(`{OPERABLE}`).length"


def view(path: str) -> State:
    """A view as it opens."""

    def show(console: Console, _: Library) -> None:
        console.go(path)

    return show


def answered(console: Console, _: Library) -> None:
    page = console.go("chat")
    page.get_by_role("button", name="When does Brisa Bikes open?").click()
    page.get_by_role("region", name="Sources").wait_for()
    page.get_by_role("button", name="Send").wait_for()


def compared(console: Console, _: Library) -> None:
    page = console.go("compare")
    page.get_by_label("Question").fill("Who are you?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("status").filter(has_text="answers have ended").wait_for(state="attached")
    page.get_by_role("button", name="Ask").wait_for()


def one_store(console: Console, library: Library) -> None:
    console.go(f"knowledge/{library.store_id}")
    console.page.get_by_text("lumen.md").first.wait_for()


def searched(console: Console, library: Library) -> None:
    page = console.go(f"knowledge/{library.store_id}/search")
    page.get_by_label("Question").fill(FERRY)
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("region", name="Hybrid").get_by_role("listitem").first.wait_for()


def jobs(console: Console, _: Library) -> None:
    ScriptedJobs([a_job(), done(a_job(id="ftjob-2"))]).over(console.page)
    console.go("jobs")
    console.page.get_by_role("progressbar").wait_for()


def running_job(console: Console, _: Library) -> None:
    script = ScriptedJobs([a_job()]).over(console.page)
    console.go(f"jobs/{script.jobs[0].id}").get_by_role("img", name="Loss by step").wait_for()


def ended_job(console: Console, _: Library) -> None:
    script = ScriptedJobs([done(a_job())]).over(console.page)
    console.go(f"jobs/{script.jobs[0].id}").get_by_role("region", name="Base and adapter").wait_for()


def new_job(console: Console, _: Library) -> None:
    console.go("jobs/+new").get_by_text("More settings").click()


def key_dialog(console: Console, _: Library) -> None:
    page = console.go("chat")
    page.get_by_role("button", name="Use another key").click()
    page.get_by_role("dialog").wait_for()


STATES: dict[str, State] = {
    "chat": view("chat"),
    "chat with an answer": answered,
    "compare": view("compare"),
    "compare with answers": compared,
    "adapters": view("adapters"),
    "one adapter": view("adapters/pirate"),
    "new adapter": view("adapters/+new"),
    "mix of adapters": view("adapters/+mix"),
    "jobs": jobs,
    "running job": running_job,
    "ended job": ended_job,
    "new job": new_job,
    "assistants": view("assistants"),
    "one assistant": view("assistants/demo-guide"),
    "new assistant": view("assistants/+new"),
    "knowledge": view("knowledge"),
    "one store": one_store,
    "search": searched,
    "all files": view("knowledge/files"),
    "load": view("load"),
    "key dialog": key_dialog,
}


@pytest.fixture(params=STATES, ids=lambda name: name.replace(" ", "-"))
def shown(request: pytest.FixtureRequest, console: Console, library: Library) -> Console:
    """The console in one of its states."""
    STATES[request.param](console, library)
    console.page.wait_for_load_state("networkidle")
    return console


def test_axe_finds_nothing_serious(shown: Console, node_modules: Path) -> None:
    page = shown.page
    page.evaluate((node_modules / "axe-core" / "axe.min.js").read_text())
    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            found += [f"{theme}, {width} px: {fault}" for fault in page.evaluate(AXE)]
    assert found == []


def test_nothing_has_to_be_scrolled_sideways(shown: Console) -> None:
    shown.page.set_viewport_size({"width": NARROWEST, "height": 740})
    assert shown.page.evaluate(TOO_WIDE) == []


def test_everything_is_reached_by_tab(shown: Console) -> None:
    page = shown.page
    page.evaluate(WATCH_FOCUS)
    for _ in range(page.evaluate(COUNT) + 3):
        page.keyboard.press("Tab")
    assert page.evaluate(UNREACHED) == []


def test_axe_finds_what_is_wrong(console: Console, node_modules: Path) -> None:
    console.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    console.page.evaluate((node_modules / "axe-core" / "axe.min.js").read_text())
    assert [fault.partition(" ")[0] for fault in console.page.evaluate(AXE)] == ["button-name"]


def test_the_first_tab_leads_past_the_menu(console: Console) -> None:
    page = console.go("adapters")
    page.reload()
    page.locator("main h1").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
