"""Assistants in the console: made, tried beside the form, changed, kept while not saved, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.e2e.console.opened import Console

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup").expect


@pytest.fixture
def porter(http: httpx2.Client) -> Iterator[str]:
    """A name that is free, and free again after the test."""
    yield "porter"
    http.delete("/v1/assistants/porter")


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_one_is_made_tried_changed_and_removed(console: Console, http: httpx2.Client, porter: str) -> None:
    console.meant("400")
    page = console.go("assistants")
    page.get_by_role("link", name="New assistant").click()
    page.get_by_role("textbox", name="Name").fill("night porter")
    page.get_by_label("Model", exact=True).select_option("demo")
    page.get_by_role("textbox", name="Instructions").fill("Answer in one sentence.")
    page.get_by_label("demo-documents").check()
    page.get_by_role("spinbutton", name="Passages at most").fill("2")
    page.get_by_role("spinbutton", name="Temperature").fill("0")
    page.get_by_role("button", name="Add an example").click()
    first = page.get_by_role("group", name="Example 1")
    first.get_by_label("Question").fill("Hello")
    first.get_by_label("Answer").fill("Good evening.")
    save(page)
    name = page.get_by_role("textbox", name="Name")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(name).to_be_focused()
    expect(page.get_by_role("textbox", name="Instructions")).to_have_value("Answer in one sentence.")

    name.fill(porter)
    save(page)
    expect(page.get_by_role("heading", name=porter, level=1)).to_be_visible()
    made = http.get(f"/v1/assistants/{porter}").json()
    assert (made["model"], made["temperature"]) == ("demo", 0)
    assert made["examples"] == [{"user": "Hello", "assistant": "Good evening."}]
    assert made["tools"] == [{"type": "file_search", "file_search": {"max_num_results": 2}}]

    message = page.get_by_role("textbox", name="Message")
    message.fill("When does Brisa Bikes open?")
    message.press("Enter")
    trial = page.get_by_role("region", name="Try it")
    expect(trial.get_by_role("article", name="Answer")).to_contain_text("nine o'clock")
    expect(trial.get_by_role("region", name="Sources")).to_contain_text("brisa-handbook.md")

    page.get_by_role("textbox", name="Description").fill("At the door")
    expect(trial).to_contain_text("unsaved changes")
    trial.get_by_role("button", name="Save and try").click()
    expect(page.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    assert http.get(f"/v1/assistants/{porter}").json()["description"] == "At the door"
    expect(trial.get_by_role("article", name="Answer")).to_have_count(1)

    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Assistants", level=1)).to_be_visible()
    assert http.get(f"/v1/assistants/{porter}").status_code == 404


def test_unsaved_changes_wait_and_can_be_given_up(console: Console, http: httpx2.Client, porter: str) -> None:
    http.post("/v1/assistants", json={"name": porter, "model": "demo", "instructions": "Be brief."})
    page = console.go(f"assistants/{porter}")
    instructions = page.get_by_role("textbox", name="Instructions")
    instructions.fill("Be long.")
    page.get_by_role("link", name="All assistants").click()
    row = page.get_by_role("row", name=porter)
    expect(row).to_contain_text("unsaved changes")
    row.get_by_role("link").click()
    expect(instructions).to_have_value("Be long.")
    expect(page.get_by_text("Changes that were not saved are still here.")).to_be_visible()
    page.get_by_role("button", name="Discard the changes").click()
    expect(instructions).to_have_value("Be brief.")
    assert http.get(f"/v1/assistants/{porter}").json()["instructions"] == "Be brief."


def test_examples_are_moved_and_taken_out(console: Console, http: httpx2.Client, porter: str) -> None:
    examples = [{"user": str(n), "assistant": "yes"} for n in (1, 2, 3)]
    http.post("/v1/assistants", json={"name": porter, "model": "demo", "examples": examples})
    page = console.go(f"assistants/{porter}")
    page.get_by_role("button", name="Move example 3 up").click()
    page.get_by_role("button", name="Remove example 1").click()
    save(page)
    expect(page.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    assert [one["user"] for one in http.get(f"/v1/assistants/{porter}").json()["examples"]] == ["3", "2"]
