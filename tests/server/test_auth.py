from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from server.auth import LOCAL, Authenticator, Exposed, check_exposure, is_loopback, may_see, may_use, require_admin
from server.errors import ApiError
from server.settings import Settings
from server.storage.callers import Caller

ADA = Caller(key_id="key_1", name="ada", role="inference", owner="team-a", models=("legal", "med-*", "x@abc*"))
ROOT = Caller(key_id="key_2", name="root", role="admin", owner="ops", models=())


class Table:
    """Keys in memory; `ever` is whether one was ever made."""

    def __init__(self, callers: dict[str, Caller], *, ever: bool = True) -> None:
        self.callers = callers
        self.ever = ever

    def find(self, secret: str) -> Caller | None:
        return self.callers.get(secret)

    def any_exist(self) -> bool:
        return self.ever


KEYED = Table({"mh-ada": ADA, "mh-root": ROOT})
OPEN = Table({}, ever=False)


def caller(keys: Table, headers: list[tuple[str, str]] | dict[str, str], **settings: object) -> Caller:
    pairs = headers.items() if isinstance(headers, dict) else headers
    raw = [(name.lower().encode(), value.encode()) for name, value in pairs]
    return Authenticator(keys, Settings(**settings)).caller(Headers(raw=raw))  # type: ignore[arg-type]  # any setting


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer mh-ada"},
        {"Authorization": "bearer   mh-ada "},
        {"x-api-key": "mh-ada"},
        {"Authorization": "Bearer mh-ada", "x-api-key": "mh-ada"},
    ],
)
def test_a_key_may_come_by_either_header(headers: dict[str, str]) -> None:
    assert caller(KEYED, headers) is ADA


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "mh-ada"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer a b"},
        {"Authorization": "Basic bWgtYWRh"},
        {"Authorization": "Bearer mh-nobody"},
        {"x-api-key": ""},
        {"x-api-key": "mh-nobody"},
        {"Authorization": "Bearer mh-ada", "x-api-key": "mh-root"},
        {"Authorization": "Basic bWgtYWRh", "x-api-key": "mh-ada"},
    ],
)
def test_anything_else_is_401_and_says_how(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        caller(KEYED, headers)
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert "key" in caught.value.message


def test_two_authorization_headers_must_agree() -> None:
    with pytest.raises(ApiError, match="two different"):
        caller(KEYED, [("Authorization", "Bearer mh-ada"), ("Authorization", "Bearer mh-root")])


def test_no_key_is_told_back() -> None:
    with pytest.raises(ApiError) as caught:
        caller(KEYED, {"Authorization": "Bearer mh-secret"})
    assert "mh-secret" not in caught.value.message


def test_with_keys_the_host_does_not_matter() -> None:
    assert caller(KEYED, {"x-api-key": "mh-ada", "Host": "api.example.com", "Origin": "https://evil.example"}) is ADA


def test_after_the_last_key_is_revoked_nobody_gets_in() -> None:
    with pytest.raises(ApiError, match="no API key"):
        caller(Table({}, ever=True), {"Host": "localhost"})


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "127.8.9.1", "[::1]:80"]
)
def test_without_keys_this_machine_is_admin(host: str) -> None:
    assert caller(OPEN, {"Host": host}) is LOCAL
    assert LOCAL.is_admin


def test_without_keys_a_clients_placeholder_key_is_no_hindrance() -> None:
    assert caller(OPEN, {"Host": "localhost", "Authorization": "Bearer sk-anything"}) is LOCAL


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0:8000",
        "10.0.0.1",
        "[::2]",
        "localhost:8000@evil.example",
        "127.1",
        "user@localhost",
    ],
)
def test_without_keys_a_foreign_host_is_refused(host: str) -> None:
    with pytest.raises(ApiError) as caught:
        caller(OPEN, {"Host": host})
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:3000", "http://localhost", "file://", "http://localhost:80000"],
)
def test_without_keys_a_foreign_origin_is_refused(origin: str) -> None:
    with pytest.raises(ApiError) as caught:
        caller(OPEN, {"Host": "localhost:8000", "Origin": origin})
    assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")


def test_without_keys_the_own_origin_and_named_ones_are_let_in() -> None:
    assert caller(OPEN, {"Host": "localhost:8000", "Origin": "http://localhost:8000"}) is LOCAL
    named = {"Host": "localhost:8000", "Origin": "https://chat.example"}
    assert caller(OPEN, named, cors_origins=("https://chat.example",)) is LOCAL


def test_a_star_does_not_open_a_server_without_keys() -> None:
    with pytest.raises(ApiError, match="Origin"):
        caller(OPEN, {"Host": "localhost", "Origin": "https://evil.example"}, cors_origins=("*",))


def test_an_address_for_others_is_never_open() -> None:
    with pytest.raises(ApiError) as caught:
        caller(OPEN, {"Host": "localhost"}, host="0.0.0.0")
    assert caught.value.status == 401


def test_listening_to_others_needs_a_key() -> None:
    with pytest.raises(Exposed, match="manyhats keys create"):
        check_exposure(Settings(host="0.0.0.0"), any_keys=False)
    check_exposure(Settings(host="0.0.0.0"), any_keys=True)
    check_exposure(Settings(host="127.0.0.1"), any_keys=False)


def test_loopback_by_its_bare_name() -> None:
    assert is_loopback("::1")
    assert not is_loopback("::")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("legal", True),
        ("legal@0123456789ab", True),
        ("Legal", False),
        ("legal2", False),
        ("med-eu", True),
        ("med-eu@012345", True),
        ("x", False),
        ("x@abc123", True),
        ("x@def123", False),
        ("demo", False),
    ],
)
def test_models_are_globs_over_public_names(name: str, allowed: bool) -> None:
    assert may_use(ADA, name) is allowed
    assert may_use(ADA, "nothing", name) is allowed
    assert may_use(ROOT, name)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("ft:demo::legal:0123456789ab", True),
        ("ft:demo::med-br:0123456789ab", True),
        ("ft:demo::x:abc123", True),  # as `x@abc*`
        ("ft:demo::x:def123", False),
        ("ft:legal::other:0123456789ab", False),
        ("ft:demo::other:0123456789ab", False),
    ],
)
def test_a_right_to_a_name_holds_for_the_permanent_names_of_its_versions(name: str, allowed: bool) -> None:
    assert may_use(ADA, name) is allowed
    assert may_use(ROOT, name)


def test_owners_see_their_own_and_admins_all() -> None:
    assert may_see(ADA, "team-a")
    assert not may_see(ADA, "ops")
    assert may_see(ROOT, "team-a")


def test_admin_only() -> None:
    require_admin(ROOT)
    with pytest.raises(ApiError, match="admin key") as caught:
        require_admin(ADA)
    assert caught.value.status == 403
