from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.ray.scale import Autoscaling, Scale

ROOT = Path(__file__).resolve().parents[3]
DOCS = (ROOT / "docs" / "ray.md").read_text()


def test_the_file_that_ships_is_read():
    scale = Scale.read(ROOT / "deploy" / "ray" / "serve.yaml")
    assert scale.replicas == 2
    assert scale.max_ongoing_requests > scale.spill_at


def test_an_empty_file_is_all_defaults(tmp_path: Path):
    (tmp_path / "empty.yaml").write_text("")
    assert Scale.read(tmp_path / "empty.yaml") == Scale()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("replica: 2", "replica"),
        ("replicas: 0", "replicas"),
        ("autoscaling: {min_replicas: 5, max_replicas: 2}", "max_replicas"),
        ("settings: {MANYHATS_PORT: 1}", "MANYHATS_PORT"),
    ],
)
def test_a_mistake_is_told_by_name(tmp_path: Path, text: str, field: str):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ValidationError, match=field):
        Scale.read(tmp_path / "wrong.yaml")


@pytest.mark.parametrize("name", [*Scale.model_fields, *Autoscaling.model_fields])
def test_every_line_of_the_file_is_documented(name: str):
    assert f"`{name}`" in DOCS
