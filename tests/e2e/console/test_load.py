"""What the server does now, in the console: rates, adapters, errors, and what a reader may stop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import openai
import pytest

from tests.e2e.console.opened import Console

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup").expect

RATE = re.compile(r"^\d")


def chat(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Who are you?"}], stream=True, max_tokens=8
    )
    assert list(stream)


def row(page: Page, part: str, name: str) -> Locator:
    """The cells of an adapter, an error, a stage."""
    region = page.get_by_role("region", name=part)
    head = page.get_by_role("rowheader", name=name, exact=True)
    return region.get_by_role("row").filter(has=head).get_by_role("cell")


def test_an_adapter_has_its_requests_and_times(console: Console, client: openai.OpenAI) -> None:
    chat(client, "shout")
    page = console.go("load")
    cells = row(page, "Answers by adapter", "shout")
    expect(cells.first).to_have_text(RATE)
    before = int(cells.first.inner_text().replace(",", ""))
    for _ in range(3):
        chat(client, "shout")
    expect(cells.first).to_have_text(f"{before + 3:,}")
    for at in range(1, 6):  # requests/s, median, 95%, tokens/s, tokens/s of one answer
        expect(cells.nth(at)).to_have_text(RATE)
    expect(row(page, "Adapters in memory", "shout").first).to_have_text("1")


def test_curves_are_drawn_and_told(console: Console) -> None:
    page = console.go("load")
    for name in ("Requests per second", "Generated tokens per second", "Requests in the server", "Time to first token"):
        chart = page.get_by_role("img", name=name)
        expect(chart).to_have_accessible_name(re.compile("the last five minutes"))
        expect(chart.locator("canvas")).to_be_visible()
    expect(page.get_by_role("img", name="Requests per second")).to_have_accessible_name(re.compile(r"now \d"))


def test_an_error_is_counted_by_status_and_kind(console: Console, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        chat(client, "nobody")
    page = console.go("load")
    expect(row(page, "Errors", "404").first).to_have_text(RATE)
    expect(row(page, "Errors", "model_not_found").first).to_have_text(RATE)


def test_since_the_start_all_answers_count_at_the_first_look(console: Console, client: openai.OpenAI) -> None:
    chat(client, "demo")
    page = console.go("load")
    page.get_by_role("combobox", name="Times and rates over").select_option("All since the start")
    cells = row(page, "Answers by adapter", "demo")
    expect(cells.nth(2)).to_have_text(re.compile(r"^[\d.]+\sm?s$"))


def test_paused_it_asks_nothing_and_goes_on_afterwards(console: Console) -> None:
    page = console.go("load")
    page.get_by_role("img", name="Requests per second").wait_for()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("Paused")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.clock.run_for(10_000)
    assert asked == []
    with page.expect_response("**/metrics"):
        page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("status")).to_have_text(re.compile("^(Rates appear.*)?$"))


def test_a_refusal_is_told_and_looked_behind(console: Console) -> None:
    console.meant("403")
    refusal = {"error": {"message": "not with this key", "code": "forbidden", "type": "invalid_request_error"}}
    console.page.route("**/metrics", lambda route: route.fulfill(status=403, json=refusal))
    page = console.go("load")
    expect(page.get_by_text("This key may not read the metrics.")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("not with this key")
    page.unroute("**/metrics")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("img", name="Requests per second")).to_be_visible()
