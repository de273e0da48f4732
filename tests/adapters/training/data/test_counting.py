from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from adapters.training.data.counting import _spread, count
from adapters.training.data.reading import read
from adapters.training.data.rendering import Renderer
from adapters.training.data.text import Text
from adapters.training.errors import DataInvalid
from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.conftest import DEMO, chat_from
from tests.adapters.training.data.made_data import assistant, chat, user


def test_a_small_file_is_counted_exactly(tmp_path: Path, demo: Renderer) -> None:
    rows = [*made.answers(), made.with_tools()]
    counts = count(made.write(tmp_path / "a", rows), "supervised", demo, seconds=60)
    rendered = [demo.chat(chat_from(row)) for row in rows]
    assert (counts.n_examples, counts.n_cut, counts.is_estimate) == (len(rows), 0, False)
    assert counts.n_tokens == sum(len(one.tokens) for one in rendered)
    assert counts.n_trained_tokens == sum(one.n_trained for one in rendered)


def test_preferences_and_texts_are_counted_too(tmp_path: Path, demo: Renderer) -> None:
    counts = count(made.write(tmp_path / "a", made.preferences()[:1]), "dpo", demo)
    pair = demo.preference(read(tmp_path / "a", "dpo")[0])  # type: ignore[arg-type]  # dpo reads preferences
    assert counts.n_trained_tokens == len(pair.chosen) + len(pair.rejected)
    assert counts.n_tokens == 2 * len(pair.prompt) + counts.n_trained_tokens  # each answer is read behind its prompt
    counts = count(made.write(tmp_path / "a", made.texts()), "continued_pretraining", demo)
    assert (
        counts.n_tokens
        == counts.n_trained_tokens
        == sum(len(demo.text(Text(row["text"], 1)).tokens) for row in made.texts())
    )


def test_without_time_it_is_estimated_from_examples_all_over_the_file(tmp_path: Path, demo: Renderer) -> None:
    short, long = chat(user("Olá"), assistant("Oi")), chat(user("Olá " * 30), assistant("Bom dia " * 30))
    path = made.write(tmp_path / "a", [short] * 150 + [long] * 50)
    exact = count(path, "supervised", demo, seconds=600)
    ticks = itertools.count()
    counts = count(path, "supervised", demo, seconds=21, clock=lambda: next(ticks))
    assert counts.is_estimate
    assert next(ticks) < 25  # a tenth was looked at
    assert counts.n_examples == exact.n_examples == 200
    assert counts.n_tokens == pytest.approx(exact.n_tokens, rel=0.2)
    assert counts.n_trained_tokens == pytest.approx(exact.n_trained_tokens, rel=0.2)


def test_no_time_at_all_still_looks_at_one(tmp_path: Path, demo: Renderer) -> None:
    path = made.write(tmp_path / "a", made.answers() * 5)
    counts = count(path, "supervised", demo, seconds=0)
    assert counts.is_estimate
    assert counts.n_tokens > 0


def test_what_is_cut_is_counted(tmp_path: Path) -> None:
    rows = [chat(user("Olá"), assistant("muito " * 30)), chat(user("Olá"), assistant("Oi"))]
    counts = count(made.write(tmp_path / "a", rows), "supervised", Renderer(DEMO, context_tokens=24))
    assert counts.n_cut == 1
    assert counts.n_tokens < 48


def test_what_cannot_be_rendered_is_an_error_with_its_line(tmp_path: Path) -> None:
    rows = [*made.answers(), chat(user("muito " * 100), assistant("Oi"))]
    with pytest.raises(DataInvalid) as refused:
        count(made.write(tmp_path / "a", rows), "supervised", Renderer(DEMO, context_tokens=60), seconds=60)
    assert (refused.value.kind, refused.value.line) == ("nothing_fits", 7)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 97, 360])
def test_the_first_few_lie_all_over(n: int) -> None:
    order = list(_spread(n))
    assert sorted(order) == list(range(n))
    for first in (5, 20, 60):
        seen = sorted([*order[:first], n])
        gaps = [right - left for left, right in itertools.pairwise(seen)]
        assert max(gaps) <= 3 * max(1, n / first) + 1
