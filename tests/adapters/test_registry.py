from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.errors import (
    AdapterNotFound,
    AliasInvalid,
    InUse,
    NameInvalid,
    NameTaken,
    OtherBase,
    PinLimit,
    VersionAmbiguous,
)
from adapters.manifest import Manifest
from adapters.registry import Registry, Version
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

Stage = Callable[[str], tuple[Path, Manifest]]


def test_a_new_name_means_its_first_version(registry: Registry, stage: Stage):
    folder, manifest = stage("one")
    version, created = registry.add("legal", folder, manifest, source="upload")
    assert created
    assert registry.resolve("legal") == version
    assert version.id == f"legal@{manifest.digest[:12]}"
    assert version.engine_name == f"legal@{manifest.digest}"
    assert (version.rank, version.size_bytes, version.source) == (8, 3, "upload")
    assert version.details["effect"] == 0.25
    assert version.details["conversion"] == {"rank": 8}
    assert sorted(path.name for path in registry.path(version).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    adapter = registry.get("legal")
    assert (adapter.status, adapter.error, adapter.previous, adapter.pinned) == ("ready", None, None, False)
    assert adapter.active == (version,)


def test_the_same_bytes_again_are_the_same_version(registry: Registry, stage: Stage):
    first = add(registry, stage, "legal", "one")
    again, created = registry.add("legal", *stage("one"), source="elsewhere")
    assert (again, created) == (first, False)


def test_other_bytes_under_a_taken_name_point_to_its_versions(registry: Registry, stage: Stage):
    first = add(registry, stage, "legal", "one")
    with pytest.raises(NameTaken, match="/v1/adapters/legal/versions"):
        registry.add("legal", *stage("two"), source="upload")
    assert registry.get("legal").versions == (first,)


@pytest.mark.parametrize("name", ["demo", "embedder"])
def test_names_of_others_are_taken(registry: Registry, stage: Stage, name: str):
    with pytest.raises(NameTaken, match="base model, the embedder or an assistant"):
        registry.add(name, *stage("one"), source="upload")
    with pytest.raises(NameTaken):
        registry.begin(name, "hf://x/y")


def test_a_bad_name_leaves_nothing(registry: Registry, stage: Stage, blobs: LocalBlobs):
    with pytest.raises(NameInvalid):
        registry.add("../legal", *stage("one"), source="upload")
    assert registry.list() == []
    assert blobs.keys("adapters/") == []


def test_a_further_version_moves_nothing_unless_asked_to(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    two, created = registry.add_version("legal", *stage("two"), source="upload")
    assert created
    assert registry.resolve("legal") == one
    three, _ = registry.add_version("legal", *stage("three"), source="upload", activate=True)
    assert registry.resolve("legal") == three
    assert registry.get("legal").versions == (one, two, three)
    same, created = registry.add_version("legal", *stage("two"), source="upload", activate=True)
    assert (same, created) == (two, False)
    assert registry.resolve("legal") == two


def test_a_version_needs_a_name_that_is_ready(registry: Registry, stage: Stage):
    with pytest.raises(AdapterNotFound, match="no adapter named 'legal'"):
        registry.add_version("legal", *stage("one"), source="upload")
    registry.begin("legal", "hf://x/y")
    with pytest.raises(AdapterNotFound, match="'staging'"):
        registry.add_version("legal", *stage("one"), source="upload")


def test_two_names_share_bytes_but_not_ids(registry: Registry, stage: Stage, blobs: LocalBlobs):
    first, second = add(registry, stage, "legal", "one"), add(registry, stage, "medical", "one")
    assert first.digest == second.digest
    assert first.lora_id != second.lora_id
    assert registry.path(first) == registry.path(second)
    assert blobs.keys("adapters/") == [f"adapters/{first.digest}"]


def test_an_id_is_never_given_out_twice(registry: Registry, stage: Stage):
    seen: set[int] = set()
    for _ in range(4):
        version = add(registry, stage, "legal", "one")
        assert version.lora_id not in seen
        seen.add(version.lora_id)
        registry.remove("legal")
        registry.collect()


# Resolving


def test_versions_answer_by_prefix_digest_and_engine_name(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    two = add_version(registry, stage, "legal", "two")
    for model in (one.id, one.engine_name, f"legal@{one.digest[:6]}", f"legal@{one.digest[:8].upper()}"):
        assert registry.resolve(model) == one
    assert registry.resolve(two.id) == two


def test_a_permanent_name_means_its_version_whatever_the_alias_means(registry: Registry, stage: Stage):
    version = add(registry, stage, "org::legal", "one")
    registry.move_alias("org::legal", add_version(registry, stage, "org::legal", "two").id)
    for digits in (version.digest[:12], version.digest, version.digest[:6].upper()):
        assert registry.resolve(f"ft:demo::org::legal:{digits}") == version
    with pytest.raises(AdapterNotFound, match="no version"):
        registry.resolve("ft:demo::org::legal:ffffff")
    with pytest.raises(AdapterNotFound, match="no adapter named 'other'"):
        registry.resolve("ft:demo::other:ffffff")
    with pytest.raises(OtherBase, match="names the base 'big', this server serves 'demo'"):
        registry.resolve(f"ft:big::org::legal:{version.digest}")


def test_permanent_names_outlive_a_renaming_of_the_base(
    registry: Registry, stage: Stage, database: Database, blobs: LocalBlobs
):
    version = add(registry, stage, "legal", "one")
    renamed = Registry(database, blobs, base_name="renamed", base_fingerprint="f" * 64)
    assert renamed.resolve(f"ft:demo::legal:{version.digest}") == version
    assert renamed.resolve(f"ft:renamed::legal:{version.digest}") == version
    other = Registry(database, blobs, base_name="big", base_fingerprint="e" * 64)
    with pytest.raises(OtherBase, match="made for base 'demo', this server serves 'big'"):
        other.resolve(f"ft:demo::legal:{version.digest}")


def test_an_ambiguous_prefix_says_which(registry: Registry, stage: Stage):
    digests = ["abcdef" + "1" * 58, "abcdef" + "2" * 58]
    add(registry, stage, "legal", "one", digest=digests[0])
    add_version(registry, stage, "legal", "two", digest=digests[1])
    with pytest.raises(VersionAmbiguous, match="give more digits") as raised:
        registry.resolve("legal@abcdef")
    assert all(digest in str(raised.value) for digest in digests)


@pytest.mark.parametrize("model", ["", "nobody", "../../etc/passwd", "nobody@abcdef", "@abcdef", "x" * 5000, "\ud800"])
def test_unknown_models_are_not_found(registry: Registry, model: str):
    with pytest.raises(AdapterNotFound) as raised:
        registry.resolve(model)
    assert len(str(raised.value)) < 200


def test_unknown_and_malformed_versions(registry: Registry, stage: Stage):
    add(registry, stage, "legal", "one")
    with pytest.raises(AdapterNotFound, match="no version 'ffffffff'"):
        registry.resolve("legal@ffffffff")
    with pytest.raises(NameInvalid, match="hex digits"):
        registry.resolve("legal@v2")


def test_resolving_takes_microseconds_and_no_sql(
    registry: Registry, stage: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
):
    add(registry, stage, "legal", "one")
    for number in range(1, 20):
        add_version(registry, stage, "legal", f"version {number}")
    registry.move_alias("legal", traffic={version.id: 1 for version in registry.get("legal").versions[:2]})
    with monkeypatch.context() as patch:
        patch.setattr(database, "read", None)
        patch.setattr(database, "write", None)
        started = time.perf_counter()
        for number in range(10_000):
            registry.resolve("legal", sticky=str(number))
        assert (time.perf_counter() - started) / 10_000 < 50e-6


def test_another_process_is_seen_after_a_refresh(
    registry: Registry, stage: Stage, database: Database, blobs: LocalBlobs
):
    other = Registry(database, blobs, base_name="demo", base_fingerprint="f" * 64)
    one = add(registry, stage, "legal", "one")
    with pytest.raises(AdapterNotFound):
        other.resolve("legal")
    other.refresh()
    assert other.resolve("legal") == one
    two, _ = other.add_version("legal", *stage("two"), source="cli", activate=True)
    assert registry.resolve("legal") == one
    registry.refresh()
    assert registry.resolve("legal") == two


# The alias


def test_the_alias_moves_by_id_and_prefix_and_back(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    two = add_version(registry, stage, "legal", "two")
    assert registry.move_alias("legal", two.id).active == (two,)
    assert registry.move_alias("legal", one.digest[:7]).active == (one,)
    assert registry.move_alias("legal", "previous").active == (two,)
    assert registry.move_alias("legal", "previous").active == (one,)
    assert registry.resolve("legal") == one


def test_moving_to_where_it_points_keeps_the_way_back(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    two = add_version(registry, stage, "legal", "two")
    registry.move_alias("legal", two.id)
    registry.move_alias("legal", two.id)
    assert registry.move_alias("legal", "previous").active == (one,)


def test_a_canary_shares_the_traffic_and_goes_back(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    two = add_version(registry, stage, "legal", "two")
    adapter = registry.move_alias("legal", traffic={two.id: 1, one.digest[:8]: 3})
    assert adapter.traffic == ((one.digest, 3), (two.digest, 1))
    answers = Counter(registry.resolve("legal", sticky=f"user {number}") for number in range(4000))
    assert 0.2 < answers[two] / 4000 < 0.3
    assert answers[one] + answers[two] == 4000
    assert registry.resolve("legal", sticky="ana") == registry.resolve("legal", sticky="ana")
    assert registry.resolve(two.id, sticky="ana") == two
    assert registry.move_alias("legal", "previous").active == (one,)
    assert registry.move_alias("legal", "previous").active == (one, two)


def test_an_alias_that_cannot_move_there(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    other = add(registry, stage, "medical", "other")
    with pytest.raises(AliasInvalid, match="no previous version"):
        registry.move_alias("legal", "previous")
    with pytest.raises(AliasInvalid, match="not a version of 'legal'"):
        registry.move_alias("legal", other.id)
    with pytest.raises(AliasInvalid, match="must be above 0"):
        registry.move_alias("legal", traffic={one.id: 0})
    with pytest.raises(AliasInvalid, match="named twice"):
        registry.move_alias("legal", traffic={one.id: 1, one.digest: 1})
    with pytest.raises(AliasInvalid, match="and not both"):
        registry.move_alias("legal", one.id, traffic={one.id: 1})
    with pytest.raises(AliasInvalid, match="and not both"):
        registry.move_alias("legal")
    with pytest.raises(AdapterNotFound, match="no version"):
        registry.move_alias("legal", "ffffffffff")
    with pytest.raises(AdapterNotFound, match="no adapter"):
        registry.move_alias("nobody", one.id)
    assert registry.get("legal").previous is None


# Pins and facts


def test_pins_last_and_are_limited(registry: Registry, stage: Stage, database: Database, blobs: LocalBlobs):
    one, two = add(registry, stage, "a", "one"), add(registry, stage, "b", "two")
    three, _ = registry.add("c", *stage("three"), source="upload", pin=True)
    registry.set_pinned("a", True)
    registry.set_pinned("a", True)
    assert registry.pinned() == (one, three)
    with pytest.raises(PinLimit, match="'b' would hold 3"):
        registry.set_pinned("b", True)
    assert not registry.get("b").pinned
    with pytest.raises(PinLimit):
        registry.add("d", *stage("four"), source="upload", pin=True)
    with pytest.raises(AdapterNotFound):
        registry.get("d")
    assert Registry(database, blobs, base_name="demo", base_fingerprint="f" * 64).pinned() == (one, three)
    registry.set_pinned("a", False)
    registry.set_pinned("b", True)
    assert registry.pinned() == (two, three)


def test_a_pinned_canary_holds_a_slot_for_each_version(registry: Registry, stage: Stage):
    registry.add("a", *stage("one"), source="upload", pin=True)
    registry.add("b", *stage("x"), source="upload", pin=True)
    second = add_version(registry, stage, "a", "two")
    first = registry.resolve("a")
    with pytest.raises(PinLimit):
        registry.move_alias("a", traffic={first.id: 1, second.id: 1})
    assert registry.move_alias("a", second.id).active == (second,)
    registry.set_pinned("b", False)
    registry.move_alias("a", traffic={first.id: 1, second.id: 1})
    assert registry.pinned() == (first, second)


def test_more_pins_than_slots_now_are_the_oldest(
    registry: Registry, stage: Stage, database: Database, blobs: LocalBlobs
):
    first, _ = registry.add("z", *stage("one"), source="upload", pin=True)
    registry.add("a", *stage("two"), source="upload", pin=True)
    smaller = Registry(database, blobs, base_name="demo", base_fingerprint="f" * 64, max_pins=1)
    assert smaller.pinned() == (first,)
    assert smaller.set_pinned("a", True).pinned  # as it was


def test_what_is_being_fetched_counts_as_one_pin_and_what_failed_as_none(registry: Registry, stage: Stage):
    registry.begin("a", "hf://org/a", pin=True)
    registry.add("b", *stage("one"), source="upload", pin=True)
    with pytest.raises(PinLimit):
        registry.begin("c", "hf://org/c", pin=True)
    registry.fail("a", "not there")
    registry.begin("c", "hf://org/c", pin=True)


def test_facts_are_added_to_a_version(registry: Registry, stage: Stage):
    version = add(registry, stage, "legal", "one")
    registry.record(version, {"logprob_difference": 0.5})
    found = registry.resolve("legal")
    assert found.details["logprob_difference"] == 0.5
    assert found.details["effect"] == 0.25
    registry.remove("legal")
    registry.record(version, {"logprob_difference": 0.7})
    with pytest.raises(AdapterNotFound):
        registry.get("legal")


# Fetching


def test_a_fetched_source_is_staging_and_then_ready(registry: Registry, stage: Stage):
    assert registry.begin("legal", "hf://org/legal", pin=True).status == "staging"
    with pytest.raises(AdapterNotFound, match="still being fetched"):
        registry.resolve("legal")
    with pytest.raises(NameTaken, match="being fetched from 'hf://org/legal'"):
        registry.begin("legal", "hf://org/legal")
    with pytest.raises(NameTaken, match="being fetched"):
        registry.add("legal", *stage("one"), source="upload")
    version, created = registry.add("legal", *stage("one"), source="hf://org/legal", begun=True)
    assert created
    assert registry.pinned() == (version,)
    assert registry.get("legal").status == "ready"


def test_what_fails_says_why_and_may_be_tried_again(registry: Registry, stage: Stage):
    registry.begin("legal", "hf://org/legal")
    registry.fail("legal", "it holds NaN")
    adapter = registry.get("legal")
    assert (adapter.status, adapter.error) == ("failed", "it holds NaN")
    with pytest.raises(AdapterNotFound, match="registration failed"):
        registry.resolve("legal")
    assert registry.begin("legal", "hf://org/better").error is None
    registry.add("legal", *stage("one"), source="hf://org/better", begun=True)
    registry.fail("legal", "too late")
    assert registry.get("legal").status == "ready"
    registry.fail("nobody", "not there")


def test_a_failed_name_is_free_for_an_upload(registry: Registry, stage: Stage):
    registry.begin("legal", "hf://org/legal", pin=True)
    registry.fail("legal", "gone")
    add(registry, stage, "legal", "one")
    assert registry.get("legal").status == "ready"
    assert not registry.get("legal").pinned


def test_a_name_removed_while_it_is_fetched_stays_removed(registry: Registry, stage: Stage):
    registry.begin("legal", "hf://org/legal")
    registry.remove("legal")
    with pytest.raises(AdapterNotFound, match="removed while"):
        registry.add("legal", *stage("one"), source="hf://org/legal", begun=True)
    registry.begin("legal", "hf://org/other")
    with pytest.raises(AdapterNotFound, match="removed while"):
        registry.add("legal", *stage("one"), source="hf://org/legal", begun=True)


def test_asking_twice_for_one_source_does_no_harm(registry: Registry, stage: Stage):
    version, _ = registry.add("legal", *stage("one"), source="hf://org/legal")
    assert registry.begin("legal", "hf://org/legal").status == "ready"
    assert registry.resolve("legal") == version
    assert registry.add("legal", *stage("one"), source="hf://org/legal", begun=True) == (version, False)
    with pytest.raises(NameTaken, match="/versions"):
        registry.begin("legal", "hf://org/other")
    add_version(registry, stage, "legal", "two")
    assert registry.begin("legal", "hf://org/legal").status == "ready"


# Another base


def test_adapters_of_another_base_keep_their_names(
    registry: Registry, stage: Stage, database: Database, blobs: LocalBlobs
):
    version = add(registry, stage, "legal", "one")
    other = Registry(database, blobs, base_name="big", base_fingerprint="e" * 64, max_pins=1)
    message = "made for base 'demo', this server serves 'big'"
    with pytest.raises(OtherBase, match=message):
        other.resolve("legal")
    with pytest.raises(OtherBase, match=message):
        other.resolve(version.id)
    with pytest.raises(OtherBase, match=message):
        other.add("legal", *stage("one"), source="upload")
    with pytest.raises(OtherBase, match=message):
        other.add_version("legal", *stage("two"), source="upload")
    with pytest.raises(OtherBase, match=message):
        other.move_alias("legal", version.id)
    with pytest.raises(OtherBase, match=message):
        other.begin("legal", "hf://org/legal")
    assert [adapter.base_name for adapter in other.list()] == ["demo"]
    registry.set_pinned("legal", True)
    other.refresh()
    assert other.pinned() == ()
    other.add("mine", *stage("two"), source="upload", pin=True)  # pins of the other base count there
    assert other.remove("legal") == [version]


# Removing


def test_a_removed_name_is_free(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    two = add_version(registry, stage, "legal", "two")
    assert registry.remove("legal") == [one, two]
    with pytest.raises(AdapterNotFound):
        registry.remove("legal")
    assert add(registry, stage, "legal", "three").adapter == "legal"


def test_a_version_that_the_name_means_cannot_be_removed(registry: Registry, stage: Stage):
    one = add(registry, stage, "legal", "one")
    two = add_version(registry, stage, "legal", "two")
    registry.move_alias("legal", traffic={one.id: 99, two.id: 1})
    for version in (one, two):
        with pytest.raises(InUse, match="move the alias"):
            registry.remove_version("legal", version.id)
    registry.move_alias("legal", two.id)
    assert registry.remove_version("legal", one.digest[:6]) == one
    with pytest.raises(AliasInvalid, match="no previous"):
        registry.move_alias("legal", "previous")
    with pytest.raises(AdapterNotFound):
        registry.resolve(one.id)
    with pytest.raises(AdapterNotFound):
        registry.remove_version("nobody", one.id)


def test_other_processes_are_told_inside_the_transaction(database: Database, blobs: LocalBlobs, stage: Stage):
    told: list[str] = []

    def on_write(connection: object) -> None:
        told.append("told")
        if fails:
            raise RuntimeError

    fails = False
    registry = Registry(database, blobs, base_name="demo", base_fingerprint="f" * 64, on_write=on_write)
    version = add(registry, stage, "legal", "one")
    assert told == ["told"]
    fails = True
    with pytest.raises(RuntimeError):
        registry.remove("legal")
    assert registry.resolve("legal") == version
    registry.refresh()
    assert registry.resolve("legal") == version


def add(registry: Registry, stage: Stage, name: str, word: str, *, digest: str | None = None) -> Version:
    folder, manifest = stage(word)
    version, created = registry.add(name, folder, _with(manifest, digest), source="upload")
    assert created
    return version


def add_version(registry: Registry, stage: Stage, name: str, word: str, *, digest: str | None = None) -> Version:
    folder, manifest = stage(word)
    return registry.add_version(name, folder, _with(manifest, digest), source="upload")[0]


def _with(manifest: Manifest, digest: str | None) -> Manifest:
    return manifest if digest is None else replace(manifest, digest=digest)
