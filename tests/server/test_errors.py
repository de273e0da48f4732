from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import adapters.errors
import adapters.training.errors
import retrieval.errors
import server.storage.errors
from server.engine.base import EngineError, EngineRefused, EngineUnavailable
from server.errors import LONGEST_MESSAGE, STATUS, ApiError, invalid_request, model_not_found, sse_error, to_api_error

ROOTS = {
    adapters.errors.AdapterError,
    adapters.training.errors.TrainingError,
    server.storage.errors.StorageError,
    retrieval.errors.RetrievalError,
    EngineError,
}  # a class of its own says more than these


def domain_modules() -> list[ModuleType]:
    """Every module that declares domain errors; ones that do not exist yet join when they do."""
    names = [
        "adapters.errors",
        "adapters.training.errors",
        "retrieval.errors",
        "server.storage.errors",
        "server.engine.base",
    ]
    return [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]


def declared_errors() -> set[type[Exception]]:
    return {
        value
        for module in domain_modules()
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.__name__
        if not value.__name__.startswith("_")
    }


def test_every_domain_error_has_a_status() -> None:
    declared = declared_errors()
    assert adapters.errors.AdapterNotFound in declared
    of_its_own = STATUS.keys() - ROOTS
    unmapped = {error for error in declared - ROOTS if of_its_own.isdisjoint(error.__mro__)}
    assert not unmapped, f"no HTTP status for {unmapped}"


def test_the_tables_words_replace_a_drivers() -> None:
    answer = to_api_error(server.storage.errors.DatabaseUnavailable("(psycopg) password is hunter2"))
    assert answer.status == 503
    assert "hunter2" not in answer.message


def test_a_full_disk_is_told_as_such() -> None:
    answer = to_api_error(server.storage.errors.DatabaseFull("/srv/data is full"))
    assert (answer.status, answer.code) == (507, "disk_full")
    assert "make room" in answer.message
    assert "/srv" not in answer.message


def test_what_the_engine_refuses_keeps_its_status() -> None:
    answer = to_api_error(EngineRefused("too long", status=413, kind="too_long", param="messages"))
    assert (answer.status, answer.message, answer.type, answer.param) == (413, "too long", "too_long", "messages")


def test_a_dead_engine_says_when_to_come_back() -> None:
    assert int(to_api_error(EngineUnavailable("restarting")).headers["Retry-After"]) >= 1


def test_no_client_mistake_is_a_server_error() -> None:
    ours = {error.__name__ for error, problem in STATUS.items() if problem.status >= 500}
    assert "SourceUnavailable" in ours
    assert all(problem.type == "server_error" for problem in STATUS.values() if problem.status >= 500)


def test_the_nearest_ancestor_wins() -> None:
    class Narrower(adapters.errors.NameTaken):
        pass

    answer = to_api_error(Narrower.__new__(Narrower))
    assert (answer.status, answer.code, answer.param) == (409, "name_taken", "name")


def test_the_exception_s_own_word_for_the_field_is_told() -> None:
    error = retrieval.errors.StoreInvalid("days is 0; it must be 1 to 365", param="expires_after.days")
    assert to_api_error(error).param == "expires_after.days"
    assert to_api_error(retrieval.errors.FilterInvalid("no")).param == "filters"


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("FileNotFound", 404, "file_not_found"),
        ("FileTooLarge", 413, "file_too_large"),
        ("StoreNotFound", 404, "vector_store_not_found"),
        ("StoreAmbiguous", 400, "vector_store_ambiguous"),
        ("StoreExpired", 400, "vector_store_expired"),
        ("OtherEmbedder", 409, "other_embedder"),
    ],
)
def test_what_clients_of_files_and_stores_look_for(name: str, status: int, code: str) -> None:
    answer = to_api_error(getattr(retrieval.errors, name)("what happened"))
    assert (answer.status, answer.code, answer.message) == (status, code, "what happened")


def test_a_failed_search_tells_nothing_of_our_inside() -> None:
    answer = to_api_error(retrieval.errors.SearchFailed("OSError: /var/lib/manyhats/cache"))
    assert (answer.status, answer.code, answer.type) == (503, "search_failed", "server_error")
    assert "manyhats" not in answer.message


def test_an_api_error_passes_through() -> None:
    error = ApiError(418, "short and stout")
    assert to_api_error(error) is error


def test_an_unknown_error_tells_nothing_of_our_inside() -> None:
    answer = to_api_error(RuntimeError("password is hunter2"))
    assert answer.status == 500
    assert answer.type == "server_error"
    assert "hunter2" not in json.dumps(answer.body())


def test_openai_shape_always_has_four_keys() -> None:
    assert ApiError(400, "no").body() == {
        "error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_anthropic_shape(status: int, kind: str) -> None:
    assert ApiError(status, "no").anthropic_body("req-1") == {
        "type": "error",
        "error": {"type": kind, "message": "no"},
        "request_id": "req-1",
    }


def test_a_model_one_may_not_see_and_one_that_is_not_there_are_told_alike() -> None:
    answer = model_not_found("secret")
    assert (answer.status, answer.param, answer.code) == (404, "model", "model_not_found")
    assert "'secret'" in answer.message
    assert "/v1/models" in answer.message


class Turn(BaseModel):
    role: str


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    turns: list[Turn]
    temperature: float = Field(1, le=2)
    prompt: str = Field("", max_length=50)


def refusal(value: object) -> ApiError:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(value)
    return invalid_request(caught.value.errors())


def test_a_missing_field_is_named_as_clients_write_it() -> None:
    answer = refusal({"turns": [{"role": "user"}, {}]})
    assert answer.param == "turns[1].role"
    assert answer.message == "turns[1].role: required, but missing"
    assert answer.status == 400


def test_a_field_may_be_called_as_a_part_of_the_request_is() -> None:
    problem = {"type": "missing", "loc": ("query", 0), "msg": "Field required"}
    assert invalid_request([problem]).param == "query[0]"
    assert invalid_request([{**problem, "loc": ("body", "query", 0)}], located=True).param == "query[0]"


def test_an_unknown_field_is_named() -> None:
    assert refusal({"turns": [], "temprature": 1}).message == "temprature: unknown field; leave it out"


def test_a_short_value_is_shown_and_a_long_one_is_not() -> None:
    assert refusal({"turns": [], "temperature": 3}).message.endswith("got 3")
    assert "xxxx" not in refusal({"turns": [], "prompt": "x" * 51}).message


def test_at_most_three_fields_are_told() -> None:
    message = refusal({"a": 1, "b": 1, "c": 1, "d": 1}).message
    assert message.endswith("and 2 more")


def test_openai_stream_error() -> None:
    frame = sse_error(ApiError(503, "the engine restarts\nsoon", type="server_error", code="engine_down"))
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    assert frame.count(b"\n") == 2
    assert json.loads(frame[6:])["error"]["code"] == "engine_down"


def test_anthropic_stream_error() -> None:
    event, data = sse_error(ApiError(503, "later"), "anthropic").decode().strip().split("\n")
    assert event == "event: error"
    assert json.loads(data[6:])["error"] == {"type": "overloaded_error", "message": "later"}


def test_responses_stream_error() -> None:
    event, data = sse_error(ApiError(500, "oh", code="c"), "responses", sequence_number=7).decode().strip().split("\n")
    assert event == "event: error"
    assert json.loads(data[6:]) == {"type": "error", "code": "c", "message": "oh", "param": None, "sequence_number": 7}


def test_a_client_s_megabytes_are_not_told_back() -> None:
    told = model_not_found("x" * 1_000_000).message
    assert told.startswith("The model 'xxx")
    assert len(told) == LONGEST_MESSAGE + 1
