"""A citation leads to the file's own web address, else to its content on this server, at the page."""

from __future__ import annotations

import pytest

from server.settings import Settings
from server.source_links import source_links
from tests.server.citing.answers import source

HERE = "http://127.0.0.1:8000/"
CONTENT = "http://127.0.0.1:8000/v1/files/file-1/content"


def test_a_file_without_an_address_is_on_this_server() -> None:
    link = source_links(Settings(engine="fake"), HERE)
    assert link(source(1)) == CONTENT
    assert link(source(1, page=3)) == f"{CONTENT}#page=3"


def test_the_public_address_stands_for_the_request_s() -> None:
    link = source_links(Settings(engine="fake", public_url="https://hats.example/api/"), HERE)
    assert link(source(1)) == "https://hats.example/api/v1/files/file-1/content"


def test_a_file_s_own_address_is_taken_as_it_is() -> None:
    link = source_links(Settings(engine="fake"), HERE)
    assert link(source(1, page=3, url="https://docs.example/a?b=c#d")) == "https://docs.example/a?b=c#d"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "ftp://docs.example/a",
        "//docs.example/a",
        "/a",
        "https://",
        "https://[half",
        "https://docs.example/a b",
        "https://docs.example/\njavascript:alert(1)",
        "",
        5.0,
        True,
    ],
)
def test_what_is_no_web_address_is_not_taken(url: object) -> None:
    assert source_links(Settings(engine="fake"), HERE)(source(1, url=url)) == CONTENT
