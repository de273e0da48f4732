"""What the parent does before and beside supervising: the port, the address, and what it tells a person."""

import json
import shlex
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from server import demo, listening, probe
from server.banner import GUIDE, banner, curl_line
from server.probe import Listing
from server.settings import DEMO_DIR


class Answers(BaseHTTPRequestHandler):
    """A server that is ready from the n-th question on, and knows two models."""

    unready: ClassVar[int] = 0
    key: ClassVar[str] = ""

    def do_GET(self) -> None:
        if self.path == "/ready":
            type(self).unready -= 1
            self._answer(200 if self.unready < 0 else 503, {})
        elif self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            self._answer(401, {"error": {"message": "no key"}})
        else:
            self._answer(200, {"data": [{"id": "demo", "type": "base"}, {"id": "pirate", "type": "adapter"}]})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def address() -> Iterator[str]:
    """Where `Answers` listens, ready and open until a test says otherwise."""
    Answers.unready, Answers.key = 0, ""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_ready_is_waited_for(address: str) -> None:
    Answers.unready = 2
    assert probe.wait_ready(address, threading.Event())
    assert Answers.unready == -1


def test_waiting_ends_when_the_child_has_ended(address: str) -> None:
    Answers.unready = 10**9
    ended = threading.Event()
    ended.set()
    assert not probe.wait_ready(address, ended)


def test_nobody_listening_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not probe.is_ready(f"http://127.0.0.1:{port}")
    assert probe.list_models(f"http://127.0.0.1:{port}") == Listing()


def test_models_are_listed(address: str) -> None:
    assert probe.list_models(address).models == (("demo", "base"), ("pirate", "adapter"))


def test_models_behind_a_key(address: str) -> None:
    Answers.key = "mh-secret"
    assert probe.list_models(address) == Listing(needs_key=True)
    assert probe.list_models(address, "mh-secret").names == ["demo", "pirate"]


def test_the_banner_has_all_that_is_needed_to_try() -> None:
    listing = Listing(models=(("demo", "base"), ("pirate", "adapter")))
    text = banner("http://127.0.0.1:8000", 31.2, listing, "demo")
    assert "http://127.0.0.1:8000 after 31 s" in text
    assert "console" in text
    assert "`model` may be: demo, pirate" in text
    command = shlex.split(next(line for line in text.splitlines() if "curl" in line))
    assert command[:2] == ["curl", "http://127.0.0.1:8000/v1/chat/completions"]
    assert json.loads(command[-1])["model"] == "pirate"
    assert "MANYHATS_API_KEY" not in text


def test_the_demos_banner_asks_the_guide_what_its_documents_know() -> None:
    listing = Listing(models=(("demo", "base"), ("pirate", "adapter"), (GUIDE, "assistant")))
    text = banner("http://127.0.0.1:8000", 31.2, listing, "demo")
    command = shlex.split(next(line for line in text.splitlines() if "curl" in line))
    body = json.loads(command[-1])
    assert body["model"] == demo.GUIDE
    assert "Brisa Bikes" in body["messages"][0]["content"]
    documents = [path.read_text() for path in (DEMO_DIR / "documents").glob("*.md")]
    assert any("The shop of Brisa Bikes opens at" in document for document in documents)


def test_with_keys_the_banner_says_how_to_get_one() -> None:
    text = banner("http://127.0.0.1:8000", 31.2, Listing(needs_key=True), "demo")
    assert "`model` may be: demo" in text
    assert "manyhats keys create" in text
    assert '"Authorization: Bearer $MANYHATS_API_KEY"' in text


def test_a_quote_in_a_name_does_not_break_the_line() -> None:
    command = shlex.split(curl_line("http://127.0.0.1:8000", "it's", needs_key=False))
    assert json.loads(command[-1])["model"] == "it's"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fe80::1", "http://[fe80::1]:8000"),
        ("box.example", "http://box.example:8000"),
    ],
)
def test_the_address_is_one_that_a_client_here_can_call(host: str, shown: str) -> None:
    assert listening.url(host, 8000) == shown


def test_any_port() -> None:
    port = listening.claim_port("127.0.0.1", 0)
    assert listening.claim_port("127.0.0.1", port) == port


def test_a_taken_port_says_whose_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(listening.PortTaken, match=r"MANYHATS_PORT=\d+") as told:
            listening.claim_port("127.0.0.1", port)
    assert "pytest" in str(told.value)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(listening.PortTaken, match="cannot listen on"):
        listening.claim_port("192.0.2.1", 8000)


def test_a_name_that_means_nothing() -> None:
    with pytest.raises(listening.PortTaken, match="MANYHATS_HOST"):
        listening.claim_port("no.such.host.invalid", 8000)
