"""Files through the official client and by hand: any name, any form, and nothing left of what was not acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from retrieval.files import Files
from server.app import create_app
from server.routes.files import attachment
from server.services import Services

BOUNDARY = "b0undary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
def keys(services: Services) -> Callable[..., dict[str, str]]:
    """Make a key and give its header."""

    def make(name: str, **rights: Any) -> dict[str, str]:
        _, secret = services.keys.create(name, **rights)
        return {"authorization": f"Bearer {secret}"}

    return make


def form(*parts: tuple[str, bytes]) -> bytes:
    """A body of parts, each of its Content-Disposition's end and its content."""
    told = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {how}\r\n\r\n".encode() + content + b"\r\n"
        for how, content in parts
    ]
    return b"".join(told) + f"--{BOUNDARY}--\r\n".encode()


def a_file(content: bytes = b"text", name: str = "a.txt") -> tuple[str, bytes]:
    return f'name="file"; filename="{name}"', content


PURPOSE = ('name="purpose"', b"assistants")


def left_over(services: Services) -> list[str]:
    """Whatever lies in the staging folder, and bytes without a row."""
    staging = services.settings.data_dir / "blobs" / "staging"
    return [path.name for path in staging.iterdir()] + services.blobs.keys("files/")


async def test_uploaded_listed_read_and_deleted(client: openai.AsyncOpenAI, services: Services) -> None:
    content = os.urandom(3_000_000)
    made = await client.files.create(file=("b.bin", content), purpose="assistants")
    other = await client.files.create(file=("c.txt", b"c"), purpose="user_data")
    assert (made.object, made.filename, made.bytes, made.purpose) == ("file", "b.bin", 3_000_000, "assistants")
    assert made.status == "processed"
    assert made.expires_at is None
    digest = services.files.get(made.id, None).digest
    assert digest == hashlib.sha256(content).hexdigest()
    assert [file.id async for file in client.files.list()] == [other.id, made.id]
    assert [file.id async for file in client.files.list(purpose="assistants")] == [made.id]
    assert [file.id async for file in client.files.list(limit=1, order="asc")] == [made.id, other.id]
    assert (await client.files.retrieve(made.id)).filename == "b.bin"
    assert (await client.files.content(made.id)).read() == content
    deleted = await client.files.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "file", True)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.retrieve(made.id)
    assert caught.value.code == "file_not_found"
    assert left_over(services) == [f"files/{services.files.get(other.id, None).digest}"]


async def test_an_end_is_kept(client: openai.AsyncOpenAI) -> None:
    made = await client.files.create(
        file=("a.txt", b"a"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    with pytest.raises(openai.BadRequestError, match="3600 to") as caught:
        await client.files.create(
            file=("a.txt", b"a"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 1}
        )
    assert caught.value.param == "expires_after[seconds]"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("contrato – versão 2.pdf", "contrato – versão 2.pdf"),
        ("報告書.txt", "報告書.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\Ana\\plano.docx", "plano.docx"),
        ("two\x1b[31m\tlines.txt", "two [31m lines.txt"),
        ("a%22b.txt", 'a"b.txt'),
        ("100% sure.txt", "100% sure.txt"),
        ("..", ".."),
    ],
)
async def test_a_name_is_data(http: httpx2.AsyncClient, sent: str, kept: str) -> None:
    answer = await http.post("/v1/files", content=form(PURPOSE, a_file(name=sent.replace("\\", "\\\\"))), headers=FORM)
    assert answer.status_code == 200, answer.text
    assert answer.json()["filename"] == kept
    sent_back = await http.get(f"/v1/files/{answer.json()['id']}/content")
    assert sent_back.content == b"text"
    assert sent_back.headers["content-disposition"] == attachment(kept)


def test_a_disposition_has_both_forms() -> None:
    assert attachment("plain.txt") == "attachment; filename=\"plain.txt\"; filename*=UTF-8''plain.txt"
    told = attachment('a"b\\ção\r\nX: y.txt')
    assert told.startswith('attachment; filename="a_b___o__X: y.txt"; ')
    assert told.endswith("filename*=UTF-8''a%22b%5C%C3%A7%C3%A3o%0D%0AX%3A%20y.txt")
    assert told.isascii()


async def test_content_is_for_saving_and_comes_in_ranges(http: httpx2.AsyncClient) -> None:
    page = b"<script>alert(1)</script>"
    made = (await http.post("/v1/files", content=form(PURPOSE, a_file(page, "x.html")), headers=FORM)).json()
    url = f"/v1/files/{made['id']}/content"
    whole = await http.get(url)
    assert whole.headers["content-security-policy"] == "sandbox"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["content-disposition"].startswith("attachment; ")
    part = await http.get(url, headers={"range": "bytes=1-6"})
    assert (part.status_code, part.content) == (206, b"script")
    assert part.headers["content-range"] == f"bytes 1-6/{len(page)}"
    assert (await http.get(url, headers={"range": "bytes=-9"})).content == page[-9:]
    assert (await http.head(url)).headers["content-length"] == str(len(page))
    behind = await http.get(url, headers={"range": "bytes=900-"})
    assert (behind.status_code, behind.json()["error"]["code"]) == (416, "range_not_satisfiable")
    for bad in ("lines=1-2", "bytes=5-2", "bytes=x", f"bytes={'9' * 5000}-", f"bytes=0-{'9' * 5000}"):
        assert (await http.get(url, headers={"range": bad})).json()["error"]["code"] == "range_invalid"


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (form(a_file()), "purpose", "required"),
        (form(PURPOSE), "file", "as form field `file`"),
        (form(PURPOSE, ('name="file"', b"text")), "file", "with a file name"),
        (form(PURPOSE, a_file(), a_file()), "file", "twice"),
        (form(PURPOSE, PURPOSE, a_file()), "purpose", "twice"),
        (form(PURPOSE, a_file(), ('name="colour"', b"red")), "colour", "unknown field"),
        (form(PURPOSE, a_file(), ("", b"red")), None, "a part has no name"),
        (form(('name="purpose"; filename="p"', b"assistants"), a_file()), "purpose", "only `file`"),
        (form(('name="purpose"', b"x" * 5000), a_file()), "purpose", "too long"),
        (form(('name="purpose"', b"\xff"), a_file()), "purpose", "UTF-8"),
        (form(('name="purpose"', b"training"), a_file()), "purpose", "fine-tune"),
        (form(('name="purpose"', b"fine-tune-results"), a_file()), "purpose", "no purpose"),
        (form(PURPOSE, a_file(b"")), "file", "empty"),
        (form(PURPOSE, a_file(name="/")), "file", "no name"),
        (form(PURPOSE, a_file(name="n" * 600)), "file", "512"),
        (form(PURPOSE, a_file())[:-10], None, "in the middle"),
        (form(PURPOSE, a_file())[:60], None, "in the middle"),
        (b"no form at all", None, "not a form"),
        (b"", None, "in the middle"),
    ],
)
async def test_a_wrong_form_is_told_and_leaves_nothing(
    http: httpx2.AsyncClient, services: Services, body: bytes, param: str | None, said: str
) -> None:
    answer = await http.post("/v1/files", content=body, headers=FORM)
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert error["param"] == param
    assert said in error["message"]
    assert left_over(services) == []
    assert services.files.list(None).items == ()


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=", ""])
async def test_what_is_no_form_is_told_how(http: httpx2.AsyncClient, kind: str) -> None:
    answer = await http.post("/v1/files", content=b"{}", headers={"content-type": kind})
    assert answer.status_code == 400
    assert "curl -F" in answer.json()["error"]["message"]


@pytest.fixture
async def small(services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    """A server that takes files of up to 100,000 bytes."""
    from dataclasses import replace

    settings = services.settings.model_copy(update={"max_file_bytes": 100_000})
    files = Files(services.database, services.blobs, max_bytes=100_000)
    app = create_app(replace(services, settings=settings, files=files))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1") as http:
        yield http


async def test_a_file_that_is_too_large_is_413_at_once(small: httpx2.AsyncClient, services: Services) -> None:
    exact = await small.post("/v1/files", content=form(PURPOSE, a_file(b"x" * 100_000)), headers=FORM)
    assert exact.status_code == 200
    one_more = await small.post("/v1/files", content=form(PURPOSE, a_file(b"x" * 100_001)), headers=FORM)
    assert (one_more.status_code, one_more.json()["error"]["code"]) == (413, "file_too_large")
    assert "MANYHATS_MAX_FILE_BYTES" in one_more.json()["error"]["message"]
    n_pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal n_pieces
        yield form(PURPOSE, a_file())[: -len(BOUNDARY) - 12]
        while True:
            n_pieces += 1
            yield b"x" * 10_000

    chunked = await small.post("/v1/files", content=endless(), headers=FORM)
    assert chunked.status_code == 413
    assert n_pieces < 30
    assert len(left_over(services)) == 1


async def test_the_same_bytes_are_kept_once(client: openai.AsyncOpenAI, services: Services) -> None:
    first = await client.files.create(file=("a.txt", b"same"), purpose="assistants")
    second = await client.files.create(file=("b.txt", b"same"), purpose="assistants")
    assert first.id != second.id
    assert len(left_over(services)) == 1
    await client.files.delete(first.id)
    assert (await client.files.content(second.id)).read() == b"same"


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(services: Services) -> None:
    """The app as uvicorn calls it, with a client that is gone after half of its file."""
    app = create_app(services)
    body = form(PURPOSE, a_file(b"x" * 3_000_000))
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body[:2_000_000], "more_body": True},
        {"type": "http.disconnect"},
    ]
    seen: list[list[str]] = []

    async def receive() -> dict[str, Any]:
        message = messages.pop(0)
        if message["type"] == "http.disconnect":
            seen.append(left_over(services))
        return message

    async def send(message: Any) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", FORM["content-type"].encode())],
    }
    await app(scope, receive, send)
    assert len(seen[0]) == 1  # half of it was there
    assert left_over(services) == []
    assert services.files.list(None).items == ()


async def test_a_full_disk_is_507_and_leaves_nothing(
    http: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full refuses every write as a full disk does."""
    real = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **further: Any) -> Any:
        if mode == "xb":
            return Path("/dev/full").open("wb")
        return real(self, mode, *rest, **further)

    monkeypatch.setattr(Path, "open", full)
    answer = await http.post("/v1/files", content=form(PURPOSE, a_file(b"x" * 100_000)), headers=FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    monkeypatch.undo()
    assert left_over(services) == []
    assert (await http.get("/v1/files")).status_code == 200


async def test_others_files_are_not_there(
    http: httpx2.AsyncClient, services: Services, keys: Callable[..., dict[str, str]]
) -> None:
    ana, ben, admin = keys("ana"), keys("ben"), keys("root", role="admin")
    made = (await http.post("/v1/files", content=form(PURPOSE, a_file()), headers={**FORM, **ana})).json()
    url = f"/v1/files/{made['id']}"
    for path in (url, f"{url}/content"):
        refused = await http.get(path, headers=ben)
        assert refused.status_code == 404
        unknown = await http.get(path.replace(made["id"], "file-none"), headers=ben)
        assert refused.text.replace(made["id"], "file-none") == unknown.text
        assert (await http.get(path, headers=admin)).status_code == 200
    assert (await http.delete(url, headers=ben)).status_code == 404
    assert (await http.get("/v1/files", headers=ben)).json()["data"] == []
    assert [one["id"] for one in (await http.get("/v1/files", headers=admin)).json()["data"]] == [made["id"]]
    assert (await http.delete(url, headers=ana)).status_code == 200


async def test_many_at_once_each_get_their_own_bytes(client: openai.AsyncOpenAI) -> None:
    contents = [bytes([number]) * 50_000 for number in range(12)]
    made = await asyncio.gather(
        *(client.files.create(file=(f"{n}.bin", content), purpose="assistants") for n, content in enumerate(contents))
    )
    read = await asyncio.gather(*(client.files.content(file.id) for file in made))
    assert [one.read() for one in read] == contents


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "order=up", "after=file-none"])
async def test_bad_pages_are_400(http: httpx2.AsyncClient, query: str) -> None:
    assert (await http.get(f"/v1/files?{query}")).status_code == 400
