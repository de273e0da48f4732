from __future__ import annotations

from pathlib import Path

from deploy.ray import stamp as module
from deploy.ray.stamp import stamp

SETTINGS = {"MANYHATS_MAX_ADAPTERS": "4", "MANYHATS_PORT": "8000"}


def test_the_same_start_is_the_same_word():
    assert stamp(SETTINGS, ["0", "1"]) == stamp(dict(reversed(SETTINGS.items())), ["0", "1"])


def test_another_setting_or_another_thing_told_is_another_word():
    words = {stamp(SETTINGS), stamp({**SETTINGS, "MANYHATS_MAX_ADAPTERS": "6"}), stamp(SETTINGS, ["0"])}
    assert len(words) == 3


def test_a_file_of_keys_counts_by_what_it_says(tmp_path: Path):
    file = tmp_path / "keys.yaml"
    told = {**SETTINGS, "MANYHATS_API_KEYS_FILE": str(file)}
    without = stamp(told)
    file.write_text("keys: []")
    before = stamp(told)
    file.write_text("keys: [{}]")
    assert len({without, before, stamp(told)}) == 3


def test_the_code_counts_and_what_python_makes_of_it_does_not():
    files = {path.relative_to(module.ROOT).as_posix() for path in module._files()}
    assert {"server/app.py", "adapters/registry.py", "deploy/ray/stamp.py", "deploy/setup/ray.txt"} <= files
    assert not [name for name in files if name.endswith(".pyc")]
