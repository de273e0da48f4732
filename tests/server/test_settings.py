"""Settings: one variable each, misspelt ones refused, bounds and cross-checks before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.settings import DEMO_BASE, Settings, UnknownSetting, load_settings, setting_names


def test_the_defaults_serve_the_demo_on_loopback() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.base_name, settings.is_demo) == ("127.0.0.1", 8000, "demo", True)
    assert Path(settings.model) == DEMO_BASE


def test_a_misspelt_variable_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownSetting, match=r"MANYHATS_PROT.*MANYHATS_PORT"):
        load_settings({"MANYHATS_PROT": "1"})


def test_the_environment_given_is_the_one_read() -> None:
    settings = load_settings({"MANYHATS_PORT": "9000", "MANYHATS_ADAPTER_ROOTS": "/a, /b,", "HOME": "/root"})
    assert settings.port == 9000
    assert settings.adapter_roots == ("/a", "/b")


@pytest.mark.parametrize(
    "bad",
    [
        {"MANYHATS_PORT": "70000"},
        {"MANYHATS_MAX_RANK": "0"},
        {"MANYHATS_ENGINE": "magic"},
        {"MANYHATS_VLLM_ARGS": "--x 'unclosed"},
        {"MANYHATS_MAX_ADAPTERS": "8", "MANYHATS_MAX_CPU_ADAPTERS": "4"},
        {"MANYHATS_LOG_FORMAT": "xml"},
    ],
)
def test_bad_values_are_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        load_settings(bad)


def test_an_empty_variable_is_as_if_it_were_not_set() -> None:
    assert load_settings({"MANYHATS_MODEL_NAME": "", "MANYHATS_PORT": ""}).port == 8000


@pytest.mark.parametrize(
    ("given", "name"),
    [({}, "demo"), ({"model": "Qwen/Qwen3-0.6B"}, "Qwen/Qwen3-0.6B"), ({"model_name": "mine"}, "mine")],
)
def test_the_base_s_public_name(given: dict[str, Any], name: str) -> None:
    assert Settings(**given).base_name == name


def test_four_copies_in_memory_per_slot_unless_set() -> None:
    assert Settings(max_adapters=3).held_adapters == 12
    assert Settings(max_adapters=3, max_cpu_adapters=5).held_adapters == 5


def test_secrets_are_not_shown() -> None:
    settings = Settings(database_url="postgresql+psycopg://u:hidden@h/d")  # type: ignore[arg-type]  # pydantic makes it a secret
    assert "hidden" not in repr(settings)
    assert settings.sql_url.endswith("u:hidden@h/d")


POSTGRESQL = "postgresql+psycopg://u:p@h/d"
BUCKET = "s3://bucket"


def test_a_replica_has_the_others_rows_and_bytes() -> None:
    shared = {"MANYHATS_DATABASE_URL": POSTGRESQL, "MANYHATS_BLOB_URL": BUCKET}
    assert load_settings({**shared, "MANYHATS_REPLICA": "true"}).replica
    for missing in shared:
        given = {name: value for name, value in shared.items() if name != missing}
        with pytest.raises(ValidationError, match=missing):
            load_settings({**given, "MANYHATS_REPLICA": "true"})


def test_alone_is_who_can_be_sure_of_it() -> None:
    assert Settings().is_alone
    assert not load_settings({"MANYHATS_DATABASE_URL": POSTGRESQL}).is_alone
    assert not Settings().model_copy(update={"replica": True}).is_alone  # one of Ray's, over the SQLite of a machine


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert len(list(setting_names())) == len(Settings.model_fields)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/prefix/", "s3a://bucket.with-dots/x_y=1"])
def test_a_bucket_has_a_plain_address(url: str) -> None:
    assert load_settings({"MANYHATS_BLOB_URL": url}).blob_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["bucket", "s3://", "/srv/blobs", "https://host/bucket", "s3://key:secret@host/x", "s3://b/x?y", "s3://b//x"]
)
def test_anything_else_is_no_bucket(url: str) -> None:
    with pytest.raises(ValidationError, match="give s3://bucket"):
        load_settings({"MANYHATS_BLOB_URL": url})
