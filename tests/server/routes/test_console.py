"""The console over HTTP: its page and files as a browser asks for them, and who the page may say that the caller is."""

from __future__ import annotations

import gzip
import hashlib
import re

import httpx2
import pytest

from server.console_files import FOLDER, INLINE, PAGE, console_files, digest
from server.services import Services
from server.version import VERSION


async def test_the_page_opens_without_a_key(http: httpx2.AsyncClient, services: Services) -> None:
    services.keys.create("ann")
    answer = await http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == (FOLDER / PAGE).read_bytes()


async def test_every_file_that_the_page_names_is_served(http: httpx2.AsyncClient) -> None:
    page = (await http.get("/")).text
    for address in re.findall(r'"(/console/[^"]+)"', page):
        assert (await http.get(address)).status_code == 200, address


@pytest.mark.parametrize("path", ["main.js", "style.css", "icon.svg", "views/chat.js", "vendor/preact.js"])
async def test_a_file_has_its_type_and_its_bytes(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(f"/console/{path}")
    assert answer.content == (FOLDER / path).read_bytes()
    expected = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(expected["." + path.rpartition(".")[2]])


async def test_the_policy_allows_the_page_s_import_map(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/")
    (inline,) = INLINE.findall(answer.content)
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'self' {digest(inline)};" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_what_a_browser_has_is_not_sent_again(http: httpx2.AsyncClient) -> None:
    first = await http.get("/console/main.js")
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    for given in (etag, f'"other", {etag}'):
        again = await http.get("/console/main.js", headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    changed = await http.get("/console/main.js", headers={"If-None-Match": 'W/"0"'})
    assert (changed.status_code, changed.content) == (200, first.content)


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, gzip", True), ("identity", False), ("gzip;q=0", False), ("", False)],
)
async def test_it_is_packed_for_who_takes_it(http: httpx2.AsyncClient, accepted: str, packed: bool) -> None:
    request = http.build_request("GET", "/console/main.js", headers={"Accept-Encoding": accepted})
    answer = await http.send(request, stream=True)
    sent = b"".join([part async for part in answer.aiter_raw()])
    await answer.aclose()
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert int(answer.headers["content-length"]) == len(sent)
    assert (gzip.decompress(sent) if packed else sent) == (FOLDER / "main.js").read_bytes()


@pytest.mark.parametrize("path", ["/", "/console/main.js"])
async def test_head_has_the_same_headers(http: httpx2.AsyncClient, path: str) -> None:
    head, get = await http.head(path), await http.get(path)
    assert head.status_code == 200
    assert {**head.headers, "x-request-id": ""} == {**get.headers, "x-request-id": ""}


@pytest.mark.parametrize(
    "path",
    [
        "/console/none.js",
        "/console/",
        "/console/views",
        "/console/vendor/LICENSES.txt",
        "/console/%2e%2e/console_files.py",
        "/console/..%2fconsole_files.py",
        "/console//etc/passwd",
        "/console/main.js%00",
    ],
)
async def test_what_is_no_file_of_the_console_is_not_there(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(httpx2.URL("http://127.0.0.1:8000").copy_with(raw_path=path.encode()))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


async def test_files_are_not_written_to(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/")).status_code == 405
    assert (await http.delete("/console/main.js")).status_code == 405


async def test_without_keys_the_caller_is_this_machine_s_admin(http: httpx2.AsyncClient, services: Services) -> None:
    told = (await http.get("/console/session")).json()
    assert told == {
        "object": "console.session",
        "version": VERSION,
        "base": "demo",
        "name": "local",
        "role": "admin",
        "reranker": False,
        "retrieval_results": services.settings.retrieval_results,
        "max_file_bytes": services.settings.max_file_bytes,
        "max_adapter_bytes": services.settings.max_adapter_bytes,
        "max_training_bytes": services.settings.max_training_bytes,
        "training": True,
        "prompt_tuning": False,
    }


@pytest.mark.parametrize("role", ["admin", "inference"])
async def test_a_key_says_its_name_and_role(http: httpx2.AsyncClient, services: Services, role: str) -> None:
    _, secret = services.keys.create("ann", role=role)
    told = (await http.get("/console/session", headers={"Authorization": f"Bearer {secret}"})).json()
    assert (told["name"], told["role"]) == ("ann", role)
    assert secret not in str(told)


async def test_without_a_key_or_with_a_wrong_one_nothing_is_told(http: httpx2.AsyncClient, services: Services) -> None:
    services.keys.create("ann")
    missing = await http.get("/console/session")
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "no_api_key")
    wrong = await http.get("/console/session", headers={"Authorization": "Bearer mh-wrong"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert VERSION not in missing.text + wrong.text


async def test_another_page_learns_nothing_from_this_machine(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/console/session", headers={"Origin": "https://elsewhere.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")


def test_every_mark_differs() -> None:
    files = console_files()
    assert len({file.etag for file in files.values()}) == len({hashlib.sha256(f.body).digest() for f in files.values()})
