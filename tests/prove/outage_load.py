"""Clients of a server whose database goes away: what each asked, what it was told, and what it may rely on since."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from server.storage.errors import DatabaseUnavailable
from server.storage.keys import Keys

PAUSE_SECONDS = 0.2  # after a refusal, so that a core is left for the others
QUESTION = "What is bread made of?"
PHRASE = "the noise of number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request. Times are of the monotonic clock."""

    kind: str
    began: float
    ended: float
    refused: bool = False  # by a 503 as it should be
    wrong: str = ""  # anything else than a good answer or a good refusal


@dataclass(slots=True)
class Journal:
    """What a client of one kind was told is there, and is gone; what was not acknowledged may be either."""

    there: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class Load:
    """Clients that go on until the block of `running` ends, each in a thread."""

    def __init__(self, http: httpx2.Client, keys: Keys, store_id: str, copies: Sequence[Path]) -> None:
        """http: with an administrator's key. copies: folders of adapters that differ."""
        self._http, self._keys, self._store_id, self._copies = http, keys, store_id, list(copies)
        self.outcomes: list[Outcome] = []
        self.journals = {kind: Journal() for kind in ("assistants", "files", "adapters", "responses", "keys")}
        self._numbers = count(1)
        self._stopping = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """All clients at once."""
        clients: list[tuple[str, Callable[[], None]]] = [
            ("chat", lambda: self._stream({"model": "demo"})),
            ("chat", lambda: self._stream({"model": "pirate"})),
            ("grounded", lambda: self._stream({"model": "demo-guide"})),
            ("search", self._search),
            ("assistants", self._change_assistants),
            ("files", self._change_files),
            ("adapters", self._change_adapters),
            ("responses", self._ask_for_later),
            ("keys", self._change_keys),
        ]
        threads = [threading.Thread(target=self._run, args=client) for client in clients]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(120)
        assert not any(thread.is_alive() for thread in threads), "a request hangs"

    def answered(self, kind: str, since: float = 0.0) -> list[Outcome]:
        """What began after that and was answered well, in the order of its end."""
        found = [one for one in self.outcomes if one.kind == kind and not one.refused and not one.wrong]
        return [one for one in found if one.began >= since]

    def _run(self, kind: str, step: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            refused, wrong = False, ""
            try:
                step()
            except (Refused, DatabaseUnavailable):
                refused = True
            except Exception as error:  # whatever it is, the test tells it
                wrong = repr(error)[:1000]
            ended = time.monotonic()
            self.outcomes.append(Outcome(kind=kind, began=began, ended=ended, refused=refused, wrong=wrong))
            if refused or wrong:
                self._stopping.wait(PAUSE_SECONDS)

    def _stream(self, body: dict[str, Any]) -> None:
        asked = {**body, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12, "stream": True}
        with self._http.stream("POST", "/v1/chat/completions", json=asked) as answer:
            answer.read()
        frames = [frame for frame in checked(answer).text.split("\n\n") if frame]
        assert frames[-1] == "data: [DONE]", frames[-3:]
        assert not any('"error"' in frame[:20] for frame in frames), frames[-3:]

    def _search(self) -> None:
        found = self._call("POST", f"/v1/vector_stores/{self._store_id}/search", {"query": PHRASE})
        assert found["data"]

    def _change_assistants(self) -> None:
        journal, number = self.journals["assistants"], next(self._numbers)
        made = self._call("POST", "/v1/assistants", {"name": f"clerk-{number}", "model": "demo"})
        journal.there.append(made["name"])
        self._drop(journal, "/v1/assistants")

    def _change_files(self) -> None:
        journal, number = self.journals["files"], next(self._numbers)
        upload = {"file": (f"{number}.txt", f"{PHRASE} {number}".encode(), "text/plain")}
        sent = self._http.post("/v1/files", data={"purpose": "assistants"}, files=upload)
        file_id = checked(sent).json()["id"]
        self._call("POST", f"/v1/vector_stores/{self._store_id}/files", {"file_id": file_id})
        journal.there.append(file_id)
        self._drop(journal, "/v1/files")

    def _change_adapters(self) -> None:
        journal, folder = self.journals["adapters"], self._copies.pop()
        self._call("POST", "/v1/adapters", {"name": folder.name, "source": str(folder)})
        journal.there.append(folder.name)
        self._drop(journal, "/v1/adapters")

    def _ask_for_later(self) -> None:
        asked = {"model": "demo", "input": QUESTION, "max_output_tokens": 12, "background": True}
        self.journals["responses"].there.append(self._call("POST", "/v1/responses", asked)["id"])
        self._stopping.wait(1.0)  # they are answered beside the others, and would only grow in number

    def _change_keys(self) -> None:
        """As the command line does it: in the database, which the server follows."""
        journal = self.journals["keys"]
        journal.there.append(self._keys.create(f"key-{next(self._numbers)}")[1])
        if len(journal.there) > 3:
            caller = self._keys.find(secret := journal.there.pop(0))
            assert caller is not None
            self._keys.revoke(caller.key_id)
            journal.gone.append(secret)
        self._stopping.wait(0.1)

    def _drop(self, journal: Journal, path: str) -> None:
        """The oldest, once there are some."""
        if len(journal.there) > 6:
            name = journal.there.pop(0)  # from here on it may be there or not
            self._call("DELETE", f"{path}/{name}")
            journal.gone.append(name)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return checked(self._http.request(method, path, json=body)).json()


class Refused(Exception):
    """503 with `Retry-After`, in OpenAI's shape."""


def checked(answer: httpx2.Response) -> httpx2.Response:
    """The answer, if it is a good one; raises Refused for a refusal that a client can work with."""
    if answer.status_code < 300:
        return answer
    assert answer.status_code == 503, f"{answer.status_code} {answer.text}"
    assert int(answer.headers["retry-after"]) > 0
    error = json.loads(answer.text)["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert (error["type"], error["code"]) == ("server_error", "database_unavailable"), error
    raise Refused(error["message"])
