from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from server.storage.database import Database
from server.storage.errors import FileInvalid, KeyAmbiguous, KeyInvalid, KeyNotFound, ManagedByFile
from server.storage.feed import Feed
from server.storage.keys import Caller, Keys
from tests.databases import only_sqlite


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


def keys_file(folder: Path, text: str) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    return path


def test_a_new_key_is_found_by_its_secret(keys: Keys) -> None:
    caller, secret = keys.create(
        "ci", role="admin", owner="team", models=["legal*"], stores=["law"], requests_per_minute=6, tokens_per_minute=9,
        max_concurrent=2,
    )  # fmt: skip
    assert secret.startswith("mh-")
    assert len(secret) == 46
    assert keys.find(secret) == caller
    assert caller == Caller(
        key_id=caller.key_id, name="ci", role="admin", owner="team", models=("legal*",), stores=("law",),
        requests_per_minute=6, tokens_per_minute=9, max_concurrent=2,
    )  # fmt: skip


def test_a_plain_key_may_use_every_model_and_owns_under_its_name(keys: Keys) -> None:
    caller, _ = keys.create("ci")
    assert (caller.role, caller.owner, caller.models, caller.stores) == ("inference", "ci", ("*",), ())


@pytest.mark.parametrize("secret", ["", "mh-", "mh-wrong", "\udcff", "é" * 10_000])
def test_other_secrets_find_nobody(keys: Keys, secret: str) -> None:
    keys.create("ci")
    assert keys.find(secret) is None


@only_sqlite
def test_the_secret_is_kept_nowhere(keys: Keys, tmp_path: Path) -> None:
    _, secret = keys.create("ci")
    content = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert secret[3:].encode() not in content
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in content
    assert [key.last4 for key in keys.list()] == [secret[-4:]]


def test_finding_reads_memory_only(keys: Keys, database: Database) -> None:
    _, secret = keys.create("ci")
    statements: list[str] = []
    sa.event.listen(
        database._engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement)
    )
    keys.find(secret)
    keys.find("mh-wrong")
    assert statements == []


def test_a_revoked_key_stops_at_once(keys: Keys) -> None:
    caller, secret = keys.create("ci")
    assert keys.revoke(caller.key_id).revoked_at is not None
    assert keys.find(secret) is None
    first = keys.list()[0].revoked_at
    assert keys.revoke(caller.key_id).revoked_at == first


def test_other_processes_follow_the_feed(keys: Keys, url: str) -> None:
    elsewhere = Database(url)
    followers = Keys(elsewhere)
    feed = Feed(elsewhere)
    caller, secret = keys.create("ci")
    made = feed.generations()["keys"]
    followers.refresh()
    assert followers.find(secret) == caller
    keys.revoke(caller.key_id)
    assert feed.generations()["keys"] > made
    followers.refresh()
    assert followers.find(secret) is None
    elsewhere.close()


def test_an_expired_key_stops(database: Database) -> None:
    now = 1_000.0
    keys = Keys(database, clock=lambda: now)
    caller, secret = keys.create("ci", expires_at=1_060.0)
    assert keys.find(secret) == caller
    now = 1_060.0
    assert keys.find(secret) is None


def test_any_exist_never_goes_back(keys: Keys) -> None:
    assert not keys.any_exist()
    caller, _ = keys.create("ci")
    assert keys.any_exist()
    keys.revoke(caller.key_id)
    assert keys.any_exist()  # or revoking the last key would open the server to everybody


def test_a_key_is_revoked_by_id_prefix_or_name(keys: Keys) -> None:
    first, _ = keys.create("one")
    second, _ = keys.create("two")
    assert keys.revoke(first.key_id[:12]).caller == first
    assert keys.revoke("two").caller == second


def test_an_ambiguous_name_lists_the_keys(keys: Keys) -> None:
    first, _ = keys.create("ci")
    second, secret = keys.create("ci")
    with pytest.raises(KeyAmbiguous, match=first.key_id) as told:
        keys.revoke("ci")
    assert second.key_id in str(told.value)
    keys.revoke(first.key_id)
    keys.revoke("ci")  # only one of the name still works
    assert keys.find(secret) is None


@pytest.mark.parametrize("text", ["nobody", "key_", "key_12", "", "%"])
def test_an_unknown_key_is_told(keys: Keys, text: str) -> None:
    keys.create("ci")
    with pytest.raises(KeyNotFound):
        keys.revoke(text)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "x" * 97}, "1 to 96"),
        ({"role": "root"}, "inference, admin"),
        ({"requests_per_minute": 0}, "1 or more"),
        ({"max_concurrent": -1}, "1 or more"),
        ({"tokens_per_minute": 2**31}, "1 or more"),
        ({"expires_at": 1.0}, "has passed"),
    ],
)
def test_what_a_key_cannot_be(keys: Keys, wrong: dict[str, object], told: str) -> None:
    with pytest.raises(KeyInvalid, match=told):
        keys.create(**{"name": "ci", **wrong})  # type: ignore[arg-type]  # wrong on purpose
    assert not keys.any_exist()


def test_keys_survive_a_restart(keys: Keys, url: str) -> None:
    caller, secret = keys.create("ci", max_concurrent=3)
    again = Database(url)
    assert Keys(again).find(secret) == caller
    again.close()


SECRET = "a-secret-of-some-length"


def test_the_files_keys_work_beside_the_databases(database: Database, tmp_path: Path) -> None:
    other = hashlib.sha256(b"known-by-its-hash-only").hexdigest().upper()
    path = keys_file(
        tmp_path,
        f"""
- name: ci
  key: {SECRET}
  models: ["legal*"]
  stores: [law]
  limits: {{requests_per_minute: 60, max_concurrent: 4}}
- name: boss
  sha256: {other}
  role: admin
  owner: team
""",
    )
    keys = Keys(database, file=path)
    assert keys.any_exist()
    ci, boss = keys.find(SECRET), keys.find("known-by-its-hash-only")
    assert ci
    assert (ci.role, ci.owner, ci.models, ci.stores) == ("inference", "ci", ("legal*",), ("law",))
    assert (ci.requests_per_minute, ci.tokens_per_minute, ci.max_concurrent) == (60, None, 4)
    assert boss
    assert (boss.role, boss.owner) == ("admin", "team")
    made, _ = keys.create("api")
    assert [(key.caller.name, key.managed, key.last4) for key in keys.list() if key.managed == "file"] == [
        (name, "file", last4) for _, name, last4 in sorted([(ci.key_id, "ci", "ngth"), (boss.key_id, "boss", "")])
    ]
    assert keys.list()[0].caller == made
    with pytest.raises(ManagedByFile):
        keys.revoke("ci")
    assert keys.find(SECRET) == ci


def test_a_key_revoked_in_the_database_does_not_live_on_in_the_file(database: Database, tmp_path: Path) -> None:
    caller, secret = Keys(database).create("ci")
    keys = Keys(database, file=keys_file(tmp_path, f"- {{name: copy, key: {secret}}}"))
    keys.revoke(caller.key_id)
    assert keys.find(secret) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {name: ci, key: %s, model: [x]}", r"keys.yaml: entry 1 \('ci'\): model: unknown field"),
        (
            "- {name: ok, key: %s}\n- {name: ci, limits: {rpm: 3}, key: 0123456789abcdef}",
            r"entry 2 .*limits.rpm: unknown",
        ),
        ("- {name: ci}", "give either key or sha256"),
        ("- {name: ci, key: %s, sha256: " + "a" * 64 + "}", "give either key or sha256"),
        ("- {name: ci, key: short}", "16 characters"),
        ("- {name: ci, sha256: abc}", "sha256: String should match"),
        ("- {key: %s}", "entry 1: name: Field required"),
        ("- {name: ci, key: %s, role: boss}", "role: Input should be 'inference' or 'admin'"),
        ("- {name: ci, key: %s, limits: {max_concurrent: 0}}", "limits.max_concurrent: .*greater"),
        ("- {name: a, key: %s}\n- {name: b, key: %s}", "'a' and 'b' have the same key"),
        ("- just text", "entry 1: "),
        ("ci: %s", "must be a list"),
        ("- {name: ci,\n key: [", "line 2: not YAML"),
    ],
)
def test_a_wrong_file_names_the_entry_and_no_secret(database: Database, tmp_path: Path, text: str, told: str) -> None:
    path = keys_file(tmp_path, text.replace("%s", SECRET))
    with pytest.raises(FileInvalid, match=told) as error:
        Keys(database, file=path)
    assert SECRET not in str(error.value)


def test_a_missing_file_is_told_and_an_empty_one_is_none(database: Database, tmp_path: Path) -> None:
    with pytest.raises(FileInvalid, match="cannot read"):
        Keys(database, file=tmp_path / "none.yaml")
    assert not Keys(database, file=keys_file(tmp_path, "# nobody yet\n")).any_exist()


@only_sqlite
def test_the_list_is_oldest_first(database: Database, tmp_path: Path) -> None:
    times = iter([30.0, 10.0, 20.0])
    keys = Keys(database, clock=lambda: next(times))
    for name in ("c", "a", "b"):
        keys.create(name)
    assert [key.caller.name for key in keys.list()] == ["a", "b", "c"]
    with sqlite3.connect(tmp_path / "data" / "manyhats.db") as connection:
        assert connection.execute("SELECT count(*) FROM api_keys").fetchone() == (3,)
    connection.close()
