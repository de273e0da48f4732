from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.storage import responses as module
from server.storage.callers import Caller
from server.storage.database import Database
from server.storage.errors import ConversationTooLong, CursorUnknown, ResponseNotFound, ResponseUnfinished
from server.storage.responses import Responses, StoredResponse

NOW = 1_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def responses(database: Database, clock: Clock) -> Responses:
    return Responses(database, clock=clock)


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text, **more}


def answered(text: str) -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"msg_{text}",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }


@pytest.fixture
def store(responses: Responses) -> Callable[..., StoredResponse]:
    def store(response_id: str, **changes: Any) -> StoredResponse:
        made: dict[str, Any] = {
            "id": response_id,
            "owner": "ana",
            "status": "completed",
            "model": "demo",
            "created_at": NOW,
            "expires_at": NOW + 60,
            "input_items": (said(f"question of {response_id}"),),
            "previous_response_id": None,
            "background": False,
        } | changes
        body = {"id": response_id, "status": made["status"], "output": [answered(f"answer of {response_id}")]}
        response = StoredResponse(**{"body": body, **made})
        responses.save(response)
        return response

    return store


def test_what_was_saved_is_loaded(responses: Responses, store: Callable[..., StoredResponse], ana: Caller) -> None:
    item = said("naïve \x00 \ud800 ☕", z=1, a=[None, True, 1.5])
    saved = store("resp_1", previous_response_id="resp_0", background=True, input_items=(item,))
    loaded = responses.load("resp_1", ana)
    assert loaded == saved
    assert list(loaded.input_items[0]) == list(item)  # keys keep their order


def test_the_unfinished_are_those_that_nobody_has_ended_or_deleted(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller
) -> None:
    ids = [f"resp_{name}" for name in ("queued", "going", "cancelled", "deleted", "done")]
    for name, status in zip(ids, ["queued", "in_progress", "in_progress", "in_progress", "completed"], strict=True):
        store(name, status=status)
    responses.cancel("resp_cancelled", ana)
    responses.delete("resp_deleted", ana)
    assert responses.unfinished([*ids, "resp_nobody"]) == {"resp_queued", "resp_going"}
    assert responses.unfinished(["resp_going"]) == {"resp_going"}


def test_others_responses_are_not_there(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller, bob: Caller, admin: Caller
) -> None:
    store("resp_1", status="in_progress")
    with pytest.raises(ResponseNotFound) as missing:
        responses.load("resp_2", bob)
    actions: list[Callable[[], object]] = [
        lambda: responses.load("resp_1", bob),
        lambda: responses.cancel("resp_1", bob),
        lambda: responses.delete("resp_1", bob),
        lambda: responses.list_input_items("resp_1", bob),
        lambda: responses.conversation("resp_1", bob),
    ]
    for action in actions:
        with pytest.raises(ResponseNotFound) as refused:
            action()
        assert str(refused.value) == str(missing.value).replace("resp_2", "resp_1")  # and nothing tells the two apart
    assert responses.load("resp_1", ana).status == "in_progress"
    assert responses.load("resp_1", admin).owner == "ana"


def test_expired_responses_are_not_there(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller, clock: Clock
) -> None:
    store("resp_1")
    store("resp_2", expires_at=NOW + 120)
    clock.now = NOW + 60
    with pytest.raises(ResponseNotFound):
        responses.load("resp_1", ana)
    assert responses.purge_expired(clock.now) == 1
    assert responses.purge_expired(clock.now) == 0
    clock.now = NOW
    with pytest.raises(ResponseNotFound):
        responses.load("resp_1", ana)
    assert responses.load("resp_2", ana)


def test_a_deleted_response_is_gone(responses: Responses, store: Callable[..., StoredResponse], ana: Caller) -> None:
    store("resp_1")
    responses.delete("resp_1", ana)
    with pytest.raises(ResponseNotFound):
        responses.delete("resp_1", ana)


def test_a_background_response_goes_its_way(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller
) -> None:
    store("resp_1", status="queued", background=True)
    assert responses.finish("resp_1", status="in_progress", body={"id": "resp_1"})
    assert responses.load("resp_1", ana).status == "in_progress"
    assert responses.finish("resp_1", status="completed", body={"id": "resp_1", "output": []})
    loaded = responses.load("resp_1", ana)
    assert (loaded.status, loaded.body) == ("completed", {"id": "resp_1", "output": [], "status": "completed"})


def test_cancelled_stays_cancelled(responses: Responses, store: Callable[..., StoredResponse], ana: Caller) -> None:
    store("resp_1", status="in_progress")
    cancelled = responses.cancel("resp_1", ana)
    assert (cancelled.status, cancelled.body["status"]) == ("cancelled", "cancelled")
    assert not responses.finish("resp_1", status="completed", body={})
    assert responses.load("resp_1", ana) == cancelled


def test_what_has_ended_is_not_cancelled(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller
) -> None:
    saved = store("resp_1")
    assert responses.cancel("resp_1", ana) == saved


def test_finishing_brings_nothing_back(responses: Responses, store: Callable[..., StoredResponse], ana: Caller) -> None:
    store("resp_1", status="in_progress")
    responses.delete("resp_1", ana)
    assert not responses.finish("resp_1", status="completed", body={})
    with pytest.raises(ResponseNotFound):
        responses.load("resp_1", ana)


def test_input_items_have_lasting_ids(responses: Responses, store: Callable[..., StoredResponse], ana: Caller) -> None:
    store(
        "resp_1",
        input_items=(said("one"), said("two", id="msg_mine"), {"type": "function_call_output", "output": "3"}),
    )
    page = responses.list_input_items("resp_1", ana, order="asc")
    assert [item["id"] for item in page.items] == ["msg_1_0", "msg_mine", "fco_1_2"]
    assert not page.has_more
    newest = responses.list_input_items("resp_1", ana, limit=1)
    assert ([item["id"] for item in newest.items], newest.has_more) == (["fco_1_2"], True)
    rest = responses.list_input_items("resp_1", ana, after="fco_1_2")
    assert [item["id"] for item in rest.items] == ["msg_mine", "msg_1_0"]
    with pytest.raises(CursorUnknown):
        responses.list_input_items("resp_1", ana, after="msg_2_0")


def test_a_conversation_is_read_from_its_beginning(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller
) -> None:
    store("resp_1")
    store("resp_2", previous_response_id="resp_1", input_items=(said("two a"), said("two b")))
    store("resp_3", previous_response_id="resp_2")
    store("resp_x", previous_response_id="resp_1")  # another branch
    assert responses.conversation("resp_3", ana) == [
        said("question of resp_1"),
        answered("answer of resp_1"),
        said("two a"),
        said("two b"),
        answered("answer of resp_2"),
        said("question of resp_3"),
        answered("answer of resp_3"),
    ]


@pytest.mark.parametrize("lost", ["resp_1", "resp_2", "resp_3"])
def test_a_conversation_with_a_hole_is_not_found(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller, lost: str
) -> None:
    store("resp_1")
    store("resp_2", previous_response_id="resp_1")
    store("resp_3", previous_response_id="resp_2")
    responses.delete(lost, ana)
    with pytest.raises(ResponseNotFound, match=lost):
        responses.conversation("resp_3", ana)


def test_nobody_continues_a_strangers_conversation(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller, bob: Caller
) -> None:
    store("resp_1", owner="bob")
    store("resp_2", previous_response_id="resp_1")
    with pytest.raises(ResponseNotFound, match="resp_1"):
        responses.conversation("resp_2", ana)
    assert len(responses.conversation("resp_1", bob)) == 2


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_unfinished_response_is_not_continued(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller, status: str
) -> None:
    store("resp_1", status=status)
    with pytest.raises(ResponseUnfinished, match=status):
        responses.conversation("resp_1", ana)


def test_a_conversation_has_an_end(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_CONVERSATION", 3)
    store("resp_1", previous_response_id="resp_3")  # a circle, which only a damaged table could have
    store("resp_2", previous_response_id="resp_1")
    store("resp_3", previous_response_id="resp_2")
    with pytest.raises(ConversationTooLong, match="resp_3"):
        responses.conversation("resp_3", ana)
    store("resp_a")
    store("resp_b", previous_response_id="resp_a")
    store("resp_c", previous_response_id="resp_b")
    assert len(responses.conversation("resp_c", ana)) == 6


def test_what_may_still_be_under_way_elsewhere_is_left_alone(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller
) -> None:
    store("resp_old", status="in_progress", created_at=NOW - 10)
    store("resp_new", status="in_progress", created_at=NOW)
    assert responses.fail_interrupted(before=NOW) == 1
    assert responses.load("resp_old", ana).status == "failed"
    assert responses.load("resp_new", ana).status == "in_progress"


def test_what_a_dead_process_left_has_failed(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller
) -> None:
    store("resp_1", status="queued")
    store("resp_2", status="in_progress")
    done = store("resp_3")
    assert responses.fail_interrupted() == 2
    for response_id in ("resp_1", "resp_2"):
        failed = responses.load(response_id, ana)
        assert failed.status == failed.body["status"] == "failed"
        assert failed.body["error"]["code"] == "server_error"
        assert failed.body["output"]  # what was there stays
    assert responses.load("resp_3", ana) == done
    assert responses.fail_interrupted() == 0


def test_beside_other_servers_only_what_is_old_has_failed(
    responses: Responses, store: Callable[..., StoredResponse], ana: Caller
) -> None:
    begun = store("resp_1", status="in_progress").created_at
    assert responses.fail_interrupted(before=begun) == 0
    assert responses.load("resp_1", ana).status == "in_progress"
    assert responses.fail_interrupted(before=begun + 1) == 1
