"""The console opens, and the watch over it sees what it should."""

from __future__ import annotations

import asyncio

from tests.e2e.console.opened import Console, Watch

ADDED = "document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))"


def test_it_opens_without_a_word_of_complaint(console: Console) -> None:
    assert console.page.title() == "Chat · Manyhats"
    assert console.menu.get_by_role("link").count() >= 4


async def test_another_event_loop_runs_between_tests_in_a_browser() -> None:
    await asyncio.sleep(0)


def test_errors_and_refusals_of_the_policy_are_seen(console: Console) -> None:
    console.meant("page error: .*thrown", "404", "Content Security Policy")
    with console.page.expect_event("console", lambda said: "Content Security Policy" in said.text):
        console.page.evaluate(ADDED)
    with console.page.expect_event("console", lambda said: "404" in said.text):
        console.page.evaluate("fetch('/v1/models/none')")
    with console.page.expect_event("pageerror"):
        console.page.evaluate("setTimeout(() => { throw new Error('thrown'); })")
    told = "\n".join(console.watch.faults)
    assert all(word in told for word in ("thrown", "404", "Content Security Policy"))
    assert console.watch.unmeant() == []


def test_what_leaves_the_server_is_a_fault() -> None:
    watch = Watch(origin="http://127.0.0.1:8000")
    assert watch.leaves("http://127.0.0.1:80001/x")
    assert watch.leaves("https://example.org/")
    assert not watch.leaves("http://127.0.0.1:8000/console/main.js")
    assert not watch.leaves("data:text/plain,x")
