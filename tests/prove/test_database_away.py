"""PostgreSQL is killed for ten seconds under the served demo: what needs it is refused, the rest goes on, and nothing
that was acknowledged is lost.

Every process of PostgreSQL gets SIGKILL, while clients stream, search and change things.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bench.adapters import make_copies
from bench.servers import ours
from server.storage.database import Database
from server.storage.keys import Keys
from tests import postgresql
from tests.prove.outage_load import PHRASE, Journal, Load, Outcome

pytestmark = [pytest.mark.prove, pytest.mark.engine]

AWAY_SECONDS = 10
REFUSAL_SECONDS = 10  # in which a refusal is told, and after which everything has to work again
PATIENCE_SECONDS = 600  # of this test with a busy machine
NEEDING = ("grounded", "search", "assistants", "files", "adapters", "responses", "keys")


@pytest.fixture
def database() -> Iterator[postgresql.Server]:
    if missing := postgresql.why_missing():
        pytest.skip(missing)
    with closing(postgresql.Server(postgresql.OPTIONS)) as server:
        server.start()
        server.migrate_template()
        yield server


def test_what_needs_the_database_waits_for_it(database: postgresql.Server, tmp_path: Path) -> None:
    with database.fresh() as url, closing(Database(url)) as tables:
        keys = Keys(tables)
        _, secret = keys.create("ann", role="admin")
        copies = [tmp_path / "adapters" / name for name in make_copies(500, tmp_path / "adapters")]
        told = {"MANYHATS_DATABASE_URL": url, "MANYHATS_ADAPTER_ROOTS": str(tmp_path / "adapters")}
        server = ours(told, folder=tmp_path)
        try:
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{server.port}", headers={"Authorization": f"Bearer {secret}"}, timeout=120
            ) as http:
                load = Load(http, keys, prepared(http), copies)
                before = {role: process.pid for role, process in server.processes().items()}
                with load.running():
                    until(lambda: all(len(load.answered(kind)) > 3 for kind in ("chat", *NEEDING)), load)
                    down = time.monotonic()
                    database.kill()
                    time.sleep(AWAY_SECONDS)  # what is tried
                    database.start()
                    up = time.monotonic()
                    until(lambda: all(len(load.answered(kind, up)) > 2 for kind in ("chat", *NEEDING)), load)
                report = {"away_seconds": round(up - down, 1), "chat": goes_on(load, down, up)}
                report |= {kind: comes_back(load, kind, down, up) for kind in NEEDING}
                report["acknowledged"] = kept(load, http)
                print(json.dumps(report))
                assert {role: process.pid for role, process in server.processes().items()} == before
        finally:
            server.stop()


def prepared(http: httpx2.Client) -> str:
    """A store with one file that is found; returns its id."""
    store = http.post("/v1/vector_stores", json={"name": "noise"}).raise_for_status().json()["id"]
    upload = {"file": ("0.txt", f"{PHRASE} 0".encode(), "text/plain")}
    sent = http.post("/v1/files", data={"purpose": "assistants"}, files=upload)
    file_id = sent.raise_for_status().json()["id"]
    http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file_id}).raise_for_status()
    until(lambda: ask(http, f"/v1/vector_stores/{store}/files/{file_id}")["status"] == "completed")
    return str(store)


def goes_on(load: Load, down: float, up: float) -> dict[str, Any]:
    """Chat without retrieval: never refused, also not in the middle."""
    chats = [one for one in load.outcomes if one.kind == "chat"]
    failed = [one for one in chats if one.wrong or one.refused]
    assert not failed, failed[:5]
    inside = [one for one in chats if down < one.began and one.ended < up]
    assert inside, "no chat was had while the database was away"
    return {"answers": len(chats), "failed": 0, "while_away": len(inside), "slowest_seconds": longest(chats)}


def comes_back(load: Load, kind: str, down: float, up: float) -> dict[str, Any]:
    """Refused in time while the database is away, answered soon after it is back, and always from then on."""
    asked = [one for one in load.outcomes if one.kind == kind]
    wrong = [one for one in asked if one.wrong]
    assert not wrong, (kind, wrong[:5])
    refused = [one for one in asked if one.refused]
    assert all(one.ended > down for one in refused), (kind, "refused before")
    # it answers a moment before whoever started it is told
    assert not [one for one in asked if down + 0.5 < one.began and one.ended < up - 1 and not one.refused], kind
    assert any(down < one.began < up for one in refused), (kind, "was not tried")
    assert longest(refused) < REFUSAL_SECONDS, (kind, longest(refused))
    back = max([up, *(one.ended for one in refused)])
    assert back - up < REFUSAL_SECONDS, (kind, back - up)
    first = min(one.ended for one in load.answered(kind, down) if one.ended > up)
    return {
        "answered": len(asked) - len(refused),
        "refused": len(refused),
        "slowest_refusal_seconds": longest(refused),
        "last_refusal_after_seconds": round(back - up, 1),
        "first_answer_after_seconds": round(first - up, 1),
    }


def kept(load: Load, http: httpx2.Client) -> dict[str, Any]:
    """All that was acknowledged is there, or gone; files are read and found, responses are answered, by themselves."""
    journals = load.journals
    names = {one["name"] for one in ask(http, "/v1/assistants?limit=100")["data"]}
    agree(journals["assistants"], names)
    agree(journals["adapters"], {one["name"] for one in ask(http, "/v1/adapters")["data"]})
    agree(journals["files"], {one["id"] for one in ask(http, "/v1/files")["data"]})
    store = next(one["id"] for one in ask(http, "/v1/vector_stores")["data"] if one["name"] == "noise")
    for file_id in journals["files"].there:
        until(lambda one=file_id: ask(http, f"/v1/vector_stores/{store}/files/{one}")["status"] != "in_progress")
        assert ask(http, f"/v1/vector_stores/{store}/files/{file_id}")["status"] == "completed"
    page = http.post(f"/v1/vector_stores/{store}/search", json={"query": PHRASE, "max_num_results": 50})
    agree(journals["files"], {one["file_id"] for one in page.raise_for_status().json()["data"]})
    for response_id in journals["responses"].there:
        until(lambda one=response_id: ask(http, f"/v1/responses/{one}")["status"] not in ("queued", "in_progress"))
        answer = ask(http, f"/v1/responses/{response_id}")
        assert answer["status"] in ("completed", "incomplete"), answer
    for name in journals["adapters"].there:
        asked = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        assert http.post("/v1/chat/completions", json=asked).raise_for_status().json()["model"] == name
    for status, secrets in ((200, journals["keys"].there), (401, journals["keys"].gone)):
        for secret in secrets:
            bearer = {"Authorization": f"Bearer {secret}"}
            assert http.get("/v1/models", headers=bearer).status_code == status
    return {kind: {"there": len(one.there), "gone": len(one.gone)} for kind, one in journals.items()}


def agree(journal: Journal, found: set[str]) -> None:
    assert set(journal.there) <= found, f"lost: {set(journal.there) - found}"
    assert not set(journal.gone) & found, f"came back: {set(journal.gone) & found}"


def ask(http: httpx2.Client, path: str) -> Any:
    return http.get(path).raise_for_status().json()


def longest(outcomes: list[Outcome]) -> float:
    return round(max((one.ended - one.began for one in outcomes), default=0.0), 1)


def until(holds: Callable[[], bool], load: Load | None = None) -> None:
    """Wait for what other processes do, which tell nobody; gives up early where a request of the load went wrong."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        wrong = [one for one in load.outcomes if one.wrong] if load else []
        assert not wrong, wrong[:5]
        assert time.monotonic() < deadline, [(one.kind, one.refused) for one in load.outcomes] if load else "too long"
        time.sleep(0.1)
