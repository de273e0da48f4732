"""Knowledge in the console: from a new store to an answer, files that fail, attributes and filters, hostile texts.

Tests name `store` before `console`: the page, which asks for the store again and again, is closed before it goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.e2e.console.opened import Console
from tests.e2e.library import Library
from tests.retrieval import made_files as make

if TYPE_CHECKING:
    from openai.types import VectorStore
    from playwright.sync_api import Locator, Page, Route

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup").expect

RANKERS = ["Hybrid: both", "Dense: meaning", "Lexical: words"]
FERRY = "The ferry from Brumal to Tesk leaves at half past six in the evening."
HOSTILE_NAME = "<img src=x onerror=window.pwned=1>.md"
HOSTILE = """# <img src=x onerror="window.pwned=1">

<script>window.pwned=1</script> The lighthouse <b onclick="window.pwned=1">keeper</b> is called Ottokar.
[here](javascript:window.pwned=1) <iframe src="https://evil.example/"></iframe>
"""

# Files that a hand drops on the page; Playwright has none for files.
DROP = """(files) => {
  const dataTransfer = new DataTransfer();
  for (const [name, text] of files) dataTransfer.items.add(new File([text], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.querySelector("h1").dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
  }
}"""


@pytest.fixture(autouse=True)
def nothing_left(client: openai.OpenAI, library: Library) -> Iterator[None]:
    """What a test uploads and makes goes with it; the library, which other tests share, is made before and stays."""
    before = {one.id for one in (*client.files.list(), *client.vector_stores.list())}
    yield
    for kind in (client.files, client.vector_stores):
        for one in kind.list():
            if one.id not in before:
                kind.delete(one.id)


def upload(page: Page, *files: tuple[str, bytes]) -> None:
    sent = [{"name": name, "mimeType": "application/octet-stream", "buffer": content} for name, content in files]
    page.get_by_label("Choose files").set_input_files(sent)


def row(page: Page, name: str) -> Locator:
    """A file of the store."""
    return page.get_by_role("list", name="Files of the store").get_by_role("listitem").filter(has_text=name)


def search(page: Page, question: str, filters: Any = None) -> None:
    page.get_by_role("link", name="Try a search").click()
    page.get_by_label("Question").fill(question)
    if filters is not None:
        if not page.get_by_label("Filters over attributes").is_visible():
            page.get_by_text("Filters and limits").click()
        page.get_by_label("Filters over attributes").fill(filters if isinstance(filters, str) else json.dumps(filters))
    page.get_by_role("button", name="Search", exact=True).click()


def column(page: Page, ranker: str) -> Locator:
    return page.get_by_role("region", name=ranker)


def test_from_a_new_store_to_an_answer_with_its_source(console: Console, client: openai.OpenAI) -> None:
    console.meant("404")  # the page may look at the store once more while it is deleted
    page = console.go("knowledge")
    page.get_by_role("button", name="New vector store").click()
    page.get_by_label("Name", exact=True).fill("Brumal")
    page.get_by_label("Expires after days without use").fill("7")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("heading", name="Brumal", level=1).wait_for()

    upload(page, ("ferry.pdf", make.pdf("The harbour of Brumal has two piers.", FERRY)))
    expect(row(page, "ferry.pdf")).to_contain_text("ready")
    expect(page.get_by_text("1 of 1 uploaded, 0 failed")).to_be_visible()

    search(page, "When does the ferry leave for Tesk?")
    for ranker in RANKERS:
        first = column(page, ranker).get_by_role("listitem").first
        expect(first).to_contain_text("ferry.pdf page 1")
        expect(first).to_contain_text(re.compile(r"Score 0\.\d\d"))
        expect(first.locator("mark").filter(has_text="ferry")).to_be_visible()

    chat = console.go("chat/demo")
    chat.get_by_role("button", name="Settings").click()
    chat.get_by_label("From these stores").check()
    chat.get_by_role("checkbox", name="Brumal").check()
    chat.get_by_role("button", name="Done").click()
    message = chat.get_by_role("textbox", name="Message")
    message.fill("When does the ferry leave for Tesk?")
    message.press("Enter")
    source = chat.get_by_role("region", name="Sources").get_by_role("listitem").first
    expect(source).to_contain_text("ferry.pdf")
    expect(source).to_contain_text("half past six")

    console.go("knowledge")
    page.get_by_role("link", name="Brumal").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_label("Delete its 1 file too").check()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Knowledge", level=1).wait_for()
    expect(page.get_by_role("link", name="Brumal")).to_have_count(0)
    assert "ferry.pdf" not in [file.filename for file in client.files.list()]


def test_what_cannot_be_read_says_why(store: VectorStore, console: Console) -> None:
    console.meant("400")
    page = console.go(f"knowledge/{store.id}")
    locked = make.encrypted_pdf("secret", password="secret")
    upload(page, ("locked.pdf", locked), ("nothing.txt", b""), ("blank.txt", b" \n "))
    expect(page.get_by_text("2 of 3 uploaded, 1 failed")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("'nothing.txt' is empty")
    expect(row(page, "locked.pdf")).to_contain_text("password")
    expect(row(page, "blank.txt")).to_contain_text("white space only")

    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_role("button", name="Read again: locked.pdf").click()
    expect(page.get_by_role("button", name="Read again: locked.pdf")).to_be_visible()

    page.get_by_role("button", name="Remove: locked.pdf").click()
    page.get_by_label("Delete the file").check()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row(page, "locked.pdf")).to_have_count(0)
    console.go("knowledge/files")
    expect(page.get_by_role("row").filter(has_text="blank.txt")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="locked.pdf")).to_have_count(0)


def test_a_filter_finds_a_changed_attribute(store: VectorStore, console: Console) -> None:
    console.meant("400")
    page = console.go(f"knowledge/{store.id}")
    upload(page, ("north.txt", b"The northern lake is deep."), ("south.txt", b"The southern lake is deep."))
    expect(row(page, "north.txt")).to_contain_text("ready")
    expect(row(page, "south.txt")).to_contain_text("ready")

    page.get_by_role("button", name="Attributes: south.txt").click()
    page.get_by_role("button", name="Add an attribute").click()
    page.get_by_label("Name of attribute 1").fill("depth")
    page.get_by_label("Kind of attribute 1").select_option("number")
    page.get_by_label("Value of attribute 1").fill("12,5")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("decimals have a point")
    page.get_by_label("Value of attribute 1").fill("12.5")
    page.get_by_role("button", name="Save").click()
    expect(row(page, "south.txt")).to_contain_text("depth: 12.5")

    search(page, "How deep is the lake?", '{"type": "gt", ')
    expect(page.get_by_role("alert")).to_contain_text("This is not JSON")
    search(page, "How deep is the lake?", {"type": "more", "key": "depth", "value": 12})
    expect(page.get_by_role("alert")).to_contain_text("filters.type must be one of")
    search(page, "How deep is the lake?", {"type": "gt", "key": "depth", "value": 12})
    for ranker in RANKERS:
        expect(column(page, ranker).get_by_role("listitem")).to_have_count(1)
        expect(column(page, ranker).get_by_role("listitem")).to_contain_text("south.txt")
    expect(page.get_by_label("Filters over attributes")).to_have_value(re.compile("depth"))


def test_hostile_names_and_texts_do_nothing(store: VectorStore, console: Console, client: openai.OpenAI) -> None:
    client.vector_stores.update(store.id, name=HOSTILE_NAME, metadata={})
    page = console.go(f"knowledge/{store.id}")
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE_NAME)
    upload(page, (HOSTILE_NAME, HOSTILE.encode()))
    expect(row(page, HOSTILE_NAME)).to_contain_text("ready")

    page.get_by_role("button", name=f"Text: {HOSTILE_NAME}").click()
    expect(page.get_by_role("dialog")).to_contain_text("<script>window.pwned=1</script>")
    page.keyboard.press("Escape")
    search(page, "What is the lighthouse keeper called?")
    for ranker in RANKERS:
        expect(column(page, ranker).get_by_role("listitem").first).to_contain_text("<b onclick=")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Files").click()
        page.get_by_role("button", name=f"Download: {HOSTILE_NAME}").click()
    assert saved.value.path().read_bytes() == HOSTILE.encode()
    assert page.locator("main img, main script, main iframe, main b").count() == 0
    assert page.evaluate("window.pwned") is None


def test_files_may_be_dropped_anywhere_but_not_too_large_ones(store: VectorStore, console: Console) -> None:
    page = console.page

    def small(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "max_file_bytes": 40})

    page.route("**/console/session", small)
    page.reload()
    console.go(f"knowledge/{store.id}")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.get_by_label("Choose files").wait_for(state="attached")
    page.evaluate(DROP, [["large.txt", "x" * 41], ["one.txt", "The mill is red."], ["two.txt", "The barn is blue."]])
    expect(page.get_by_role("alert")).to_contain_text("The file has 41 B; this server takes at most 40 B.")
    expect(page.get_by_text("2 of 3 uploaded, 1 failed")).to_be_visible()
    expect(row(page, "two.txt")).to_contain_text("ready")
    assert sum(url.endswith("/v1/files") for url in sent) == 2


def test_a_ranker_that_cannot_answer_says_so_in_its_own_column(console: Console, library: Library) -> None:
    console.meant("409")
    page = console.go(f"knowledge/search/{library.store_id}")

    def other_embedder(route: Route) -> None:
        if route.request.post_data_json["ranking_options"]["ranker"] != "dense":
            return route.fallback()
        error = {"message": "the vectors were made by another embedder", "code": "other_embedder", "param": None}
        return route.fulfill(status=409, json={"error": error})

    page.route("**/search", other_embedder)
    page.get_by_label("Question").fill("What is the colour of the sky?")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(column(page, "Dense: meaning").get_by_role("alert")).to_contain_text("made by another embedder")
    expect(column(page, "Lexical: words").get_by_role("listitem").first).to_contain_text("lumen.md")
    expect(column(page, "Hybrid: both").get_by_role("alert")).to_have_count(0)


def test_a_store_of_another_embedder_is_told_and_embedded_anew(console: Console, library: Library) -> None:
    page = console.page

    def without_vectors(route: Route) -> None:
        if route.request.method != "GET":
            return route.fallback()
        answer = route.fetch()
        found = answer.json()
        none = {"kind": "none", "vectors": 0, "bytes": 0}
        return route.fulfill(response=answer, json={**found, "index": {**found["index"], "dense": none}})

    page.route(f"**/v1/vector_stores/{library.store_id}", without_vectors)
    console.go(f"knowledge/{library.store_id}")
    expect(page.get_by_text("from another embedder")).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith("/reembed")) as asked:
        page.get_by_role("button", name="Embed anew now").click()
    assert asked.value.status == 202
    expect(page.get_by_text("Asked for")).to_be_visible()
    page.unroute(f"**/v1/vector_stores/{library.store_id}")
    expect(page.get_by_text("from another embedder")).to_have_count(0)
    expect(page.get_by_text(re.compile(r"exact, \d+ vectors"))).to_be_visible()
