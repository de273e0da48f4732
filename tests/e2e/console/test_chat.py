"""Chat in the console: an answer with its sources, what can be done with a turn, and what hostile text cannot do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import openai
import pytest

from tests.e2e.console.opened import Console

if TYPE_CHECKING:
    from openai.types import VectorStore
    from playwright.sync_api import Dialog, Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup").expect

QUESTION = "When does Brisa Bikes open?"
NINE = "opens at nine o'clock"

HOSTILE = """# Notice

<script>window.pwned = 1; alert(1)</script> <img src=x onerror="window.pwned = 1">
<img src="https://evil.example/seen-too.png"> <iframe src="https://evil.example/"></iframe>
<style>* { display: none }</style>

The <b style="position: fixed" id="content" name="app" onclick="window.pwned = 1">frobnication</b>
lasts <img src=x onerror="window.pwned = 1"> nine days.
<form action="https://evil.example/"><input name="key"><button>Send</button></form>
<svg onload="window.pwned = 1"><a xlink:href="javascript:window.pwned = 1">x</a></svg>

![seen](https://evil.example/seen.png) [innocent](javascript:window.pwned=1)
[also](data:text/html,<script>window.pwned=1</script>) <https://ok.example/>

```html
</code></pre><script>window.pwned = 1</script>
```
"""

# A model that says two words and then nothing, until somebody stops it.
HESITATES = """() => {
  const real = window.fetch;
  window.fetch = (address, options) => {
    if (!String(address).endsWith("/v1/chat/completions")) return real(address, options);
    window.asked = JSON.parse(options.body);
    const said = (content) => ({ model: "demo", choices: [{ index: 0, delta: { content } }] });
    const chunk = (content) => `data: ${JSON.stringify(said(content))}\\n\\n`;
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(chunk("Well,") + chunk(" hm")));
        options.signal.addEventListener("abort", () => controller.error(options.signal.reason));
      },
    });
    return Promise.resolve(new Response(body));
  };
}"""


def chat_with(console: Console, model: str) -> Page:
    """The page with a new conversation; it is there when its model is chosen."""
    page = console.go(f"chat/{model}")
    expect(page.get_by_role("combobox", name="Model")).to_have_value(model)
    return page


def ask(page: Page, text: str) -> None:
    message = page.get_by_role("textbox", name="Message")
    message.fill(text)
    message.press("Enter")


def answers(page: Page) -> Locator:
    return page.get_by_role("article", name="Answer")


def test_an_answer_names_its_sources_and_a_citation_opens_the_file(console: Console) -> None:
    page = chat_with(console, "demo-guide")
    ask(page, QUESTION)
    answer = answers(page)
    expect(answer).to_contain_text(NINE)
    sources = answer.get_by_role("region", name="Sources")
    expect(sources.get_by_role("listitem").first).to_contain_text("brisa-handbook.md")
    expect(sources.get_by_text("cited", exact=True).first).to_be_visible()
    expect(answer).to_contain_text(re.compile(r"demo-guide · \d+ tokens · first token after"))

    answer.get_by_role("button", name="Source 1", exact=True).first.click()
    dialog = page.get_by_role("dialog", name="[1] brisa-handbook.md")
    expect(dialog.locator("mark")).to_contain_text(NINE)
    expect(dialog).to_contain_text("## Holidays")  # which is in the file and not in the passage
    with page.expect_download() as saved:
        dialog.get_by_role("button", name="Download the file").click()
    assert saved.value.suggested_filename == "brisa-handbook.md"
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_stop_keeps_what_was_said(console: Console) -> None:
    page = chat_with(console, "demo")
    page.evaluate(HESITATES)
    ask(page, "Well?")
    expect(answers(page)).to_contain_text("Well, hm")
    assert page.evaluate("window.asked.messages") == [{"role": "user", "content": "Well?"}]
    page.get_by_role("textbox", name="Message").fill("typed meanwhile")
    page.get_by_role("button", name="Stop").click()
    expect(answers(page)).to_contain_text("stopped")
    expect(answers(page)).to_contain_text("Well, hm")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("typed meanwhile")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_an_edited_question_takes_what_came_after_it_along(console: Console) -> None:
    page = chat_with(console, "shout")
    ask(page, "Who are you?")
    expect(answers(page).first).to_contain_text("shout ·")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    ask(page, "And who else?")
    expect(answers(page)).to_have_count(2)
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()

    page.get_by_role("button", name="Edit").first.click()
    question = page.get_by_role("textbox", name="Question")
    expect(question).to_have_value("Who are you?")
    question.fill("What are you?")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("article", name="Question")).to_have_count(1)
    expect(page.get_by_role("article", name="Question")).to_contain_text("What are you?")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()


def test_conversations_are_kept_renamed_and_deleted_after_a_question(console: Console) -> None:
    page = chat_with(console, "demo")
    ask(page, "Who are you?")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Name").fill("First steps")
    page.get_by_role("button", name="Save").click()
    page.goto(f"{console.address}/#/chat")
    page.reload()
    expect(page.get_by_role("heading", name="First steps")).to_be_visible()
    expect(answers(page)).to_contain_text("demo ·")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="One base model, many hats")).to_be_visible()
    assert page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('manyhats.chat.'))") == []


def test_settings_are_in_the_exact_request_and_the_key_is_not(console: Console) -> None:
    page = chat_with(console, "pirate")
    page.get_by_role("textbox", name="Message").fill("It's 'quoted'")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Off").check()
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="The exact request").click()
    code = page.get_by_role("dialog").locator("pre")
    expect(code).to_contain_text('"temperature": 0.5')
    expect(code).to_contain_text('"retrieval": null')
    expect(code).to_contain_text("It'\\''s '\\''quoted'\\''")
    page.get_by_role("button", name="Python").click()
    expect(code).to_contain_text('{"role": "system", "content": "Be brief."}')
    expect(code).to_contain_text('api_key=os.environ.get("MANYHATS_API_KEY"')


def test_an_error_of_the_server_is_told_and_the_question_stays(console: Console) -> None:
    console.meant("404")
    page = chat_with(console, "no-such-model")
    ask(page, "Hello?")
    expect(answers(page).get_by_role("alert")).to_contain_text("model_not_found")
    expect(page.get_by_role("article", name="Question")).to_contain_text("Hello?")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()


def test_hostile_text_of_a_document_is_only_text(console: Console, client: openai.OpenAI, store: VectorStore) -> None:
    name = '<img src=x onerror="window.pwned=1">.md'
    client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(name, HOSTILE.encode()))
    page = chat_with(console, "demo")
    said = dialogs_of(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("From these stores").check()
    page.get_by_label("Further stores").fill(store.id)
    page.get_by_role("button", name="Done").click()
    ask(page, "How long does the frobnication last?")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    answers(page).get_by_role("region", name="Sources").get_by_role("button").first.click()
    expect(page.get_by_role("dialog").locator("mark")).to_contain_text("<script>window.pwned = 1; alert(1)</script>")
    harmless(page, said)


def test_hostile_text_of_a_model_is_drawn_without_effect(console: Console) -> None:
    page = chat_with(console, "demo")
    said = dialogs_of(page)
    source = {
        "number": 1,
        "file_id": "file-x",
        "filename": "<script>window.pwned = 1</script>",
        "page": None,
        "heading": [HOSTILE],
        "score": 1,
        "text": HOSTILE,
    }
    opening = {"query": HOSTILE, "sources": [source], "dropped": [], "skipped": HOSTILE}
    chunks = [
        {
            "model": HOSTILE,
            "choices": [{"index": 0, "delta": {"content": f"{HOSTILE}\nSo [1] says, `[1]`."}}],
            "retrieval": opening,
        },
        {
            "model": HOSTILE,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "retrieval": {"cited": [1]},
        },
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    ask(page, "Say something hostile.")
    text = answers(page).locator(".markdown")
    expect(text).to_contain_text("frobnication")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    assert text.get_by_role("button", name="Source 1").count() == 1  # not the one in code
    assert text.locator("script, style, img, svg, iframe, form, input, [style], [id], [name], [onclick]").count() == 0
    hrefs = text.get_by_role("link").evaluate_all("(links) => links.map((link) => [link.href, link.target, link.rel])")
    apart = ["_blank", "noopener noreferrer"]
    assert hrefs == [[address, *apart] for address in ("https://evil.example/seen.png", "https://ok.example/")]
    harmless(page, said)


def dialogs_of(page: Page) -> list[str]:
    """What dialogs of the browser's say, as long as the test runs."""
    said: list[str] = []

    def close(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", close)
    return said


def harmless(page: Page, said: list[str]) -> None:
    """Nothing ran; every test watches that nothing left the server and no policy had to refuse anything."""
    assert said == []
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(new_console: Callable[..., Console], server: str, scheme: str) -> None:
    console = new_console(server, viewport={"width": 360, "height": 740}, color_scheme=scheme, locale="pt-BR")
    page = console.go("chat/demo-guide")
    expect(page.get_by_role("combobox", name="Modelo")).to_have_value("demo-guide")
    message = page.get_by_role("textbox", name="Mensagem")
    message.fill(QUESTION)
    message.press("Enter")
    expect(page.get_by_role("button", name="Responder de novo")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_focus_is_never_lost(console: Console) -> None:
    page = chat_with(console, "demo")
    page.evaluate(HESITATES)
    message = page.get_by_role("textbox", name="Message")
    page.get_by_role("button", name="Who are you?").click()
    expect(message).to_be_focused()
    page.get_by_role("button", name="Stop").click()
    expect(message).to_be_focused()
    page.get_by_role("button", name="New conversation").click()
    expect(message).to_be_focused()
