"""One question to several models in the console: side by side, with figures, and as a link."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.opened import Console

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup").expect

WHO = "Who are you?"
HOURS = "When does Brisa Bikes open?"
NINE = "opens at nine o'clock"
FIGURE = re.compile(r"^\d")

# Models that say two words and then nothing, until somebody stops them.
HESITATE = """() => {
  const real = window.fetch;
  window.fetch = (address, options) => {
    if (!String(address).endsWith("/v1/chat/completions")) return real(address, options);
    (window.asked ??= []).push(JSON.parse(options.body));
    const chunk = { model: "demo", choices: [{ index: 0, delta: { content: "Well, hm" } }] };
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(chunk)}\\n\\n`));
        options.signal.addEventListener("abort", () => controller.error(options.signal.reason));
      },
    });
    return Promise.resolve(new Response(body));
  };
}"""


def column(page: Page, number: int) -> Locator:
    return page.get_by_role("article", name=f"Answer {number}", exact=True)


def figure(column: Locator, name: str) -> Locator:
    """What stands under a name of the figures."""
    return column.locator("dl > div").filter(has=column.page.get_by_text(name, exact=True)).locator("dd")


def ask(page: Page, text: str) -> None:
    question = page.get_by_role("textbox", name="Question")
    question.fill(text)
    question.press("Enter")


def test_two_adapters_answer_at_once_each_in_its_own_way(console: Console) -> None:
    page = console.go("compare/pirate/shout")
    ask(page, WHO)
    expect(page.get_by_role("status")).to_have_text("2 of 2 answers have ended.")
    pirate, shout = (column(page, number).locator(".markdown") for number in (1, 2))
    expect(pirate).to_contain_text(re.compile("arr|ahoy|matey|captain", re.IGNORECASE))
    assert (words := shout.inner_text()) == words.upper()
    assert words != pirate.inner_text().upper()
    for number in (1, 2):
        for name in ("First token", "Tokens/s", "Tokens", "Sources"):
            expect(figure(column(page, number), name)).to_have_text(FIGURE)
        expect(figure(column(page, number), "Ended by")).to_have_text("the model")


def test_a_column_is_chosen_added_removed_and_stands_in_the_address(console: Console) -> None:
    page = console.go("compare")
    expect(page).to_have_url(re.compile("#/compare/demo/[^/]+$"))
    expect(page.get_by_role("button", name="Remove answer 1")).to_be_disabled()
    page.get_by_role("combobox", name="Model of answer 2").select_option("pirate")
    page.get_by_role("button", name="Add a column").click()
    page.get_by_role("combobox", name="Documents of answer 3").select_option("off")
    expect(page).to_have_url(re.compile(r"#/compare/demo/pirate/pirate\?off$"))
    link = page.url
    page.get_by_role("button", name="Remove answer 1").click()
    expect(page).to_have_url(re.compile(r"#/compare/pirate/pirate\?off$"))
    page.goto(link)
    expect(page.get_by_role("article")).to_have_count(3)
    expect(page.get_by_role("combobox", name="Model of answer 1")).to_have_value("demo")
    expect(page.get_by_role("combobox", name="Documents of answer 3")).to_have_value("off")


def test_the_same_assistant_with_its_documents_and_without(console: Console) -> None:
    page = console.go("compare/demo-guide/demo-guide%3Foff")
    ask(page, HOURS)
    knowing, guessing = column(page, 1), column(page, 2)
    expect(knowing).to_contain_text(NINE)
    expect(figure(guessing, "Ended by")).not_to_have_text("–")
    expect(figure(guessing, "Sources")).to_have_text("0")
    expect(figure(knowing, "Sources")).to_have_text(re.compile("^[1-9].* cited$"))
    knowing.locator("summary").filter(has_text="Sources").click()
    expect(knowing.get_by_role("listitem").first).to_contain_text("brisa-handbook.md")
    page.get_by_role("switch", name="Mark what the first answer does not say").check()
    expect(guessing).to_contain_text("words differ from the first answer.")
    expect(guessing.locator("mark").first).to_be_visible()
    expect(knowing.locator("mark")).to_have_count(0)


def test_a_citation_opens_its_source_from_a_closed_list(console: Console) -> None:
    page = console.go("compare/demo-guide/demo")
    ask(page, HOURS)
    column(page, 1).get_by_role("button", name="Source 1").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("brisa-handbook.md")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_all_are_asked_the_same_and_stopped_at_once(console: Console) -> None:
    page = console.go("compare/demo/pirate")
    page.evaluate(HESITATE)
    page.get_by_text("Sampling and instructions").click()
    page.get_by_role("spinbutton", name="Seed").fill("7")
    page.get_by_role("textbox", name="System prompt").fill("Be brief.")
    ask(page, WHO)
    for number in (1, 2):
        expect(column(page, number)).to_contain_text("Well, hm")
    page.get_by_role("button", name="Stop all").click()
    for number in (1, 2):
        expect(figure(column(page, number), "Ended by")).to_have_text("stopped by you")
    bodies = page.evaluate("window.asked")
    assert sorted(body.pop("model") for body in bodies) == ["demo", "pirate"]
    assert bodies[0] == bodies[1]
    assert bodies[0]["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": WHO}]
    assert (bodies[0]["temperature"], bodies[0]["seed"], "max_tokens" in bodies[0]) == (0, 7, False)
    expect(page.get_by_role("textbox", name="Question")).to_have_value(WHO)


def test_what_was_asked_is_still_there_after_another_page(console: Console) -> None:
    page = console.go("compare/demo/pirate")
    ask(page, WHO)
    expect(page.get_by_role("status")).to_have_text("2 of 2 answers have ended.")
    said = column(page, 2).locator(".markdown").inner_text()
    console.menu.get_by_role("link", name="Load").click()
    page.get_by_role("heading", name="Load", level=1).wait_for()
    console.menu.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("textbox", name="Question")).to_have_value(WHO)
    expect(column(page, 2).locator(".markdown")).to_have_text(said)


def test_a_model_that_is_not_there_fails_in_its_column_alone(console: Console) -> None:
    console.meant("404")
    page = console.go("compare/nobody/demo")
    ask(page, WHO)
    expect(column(page, 1).get_by_role("alert")).to_contain_text("model_not_found")
    expect(figure(column(page, 1), "Ended by")).to_have_text("model_not_found")
    expect(figure(column(page, 2), "Ended by")).to_have_text("the model")
