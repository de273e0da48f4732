"""What is drawn is what the numbers say: its ends, its direction, its marks, and nothing beyond its frame."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.loss_curve import MARK, loss_curve

COLUMNS, ROWS = 40, 8
FALLING = [(step, 4.0 - step / 50) for step in range(1, 151)]  # to 1.0

losses = st.floats(min_value=-1e6, max_value=1e6) | st.sampled_from([math.nan, math.inf, -math.inf])
series = st.lists(st.tuples(st.integers(0, 10_000), losses), max_size=60).map(
    lambda points: sorted(dict(points).items())
)


def cells(picture: str) -> list[str]:
    """The rows of the field, without labels."""
    rows = picture.splitlines()[:ROWS]
    return [row.replace("┤", "│").partition("│")[2].ljust(COLUMNS) for row in rows]


def heights(picture: str) -> list[float]:
    """The mean row of what stands in each column, from the top."""
    found = []
    for column in range(COLUMNS):
        rows = [row for row, line in enumerate(cells(picture)) if line[column] != " "]
        found.append(sum(rows) / len(rows))
    return found


def test_a_falling_loss_falls_from_corner_to_corner() -> None:
    picture = loss_curve(FALLING, [], columns=COLUMNS, rows=ROWS)
    drawn = heights(picture)
    assert drawn[0] == 0
    assert drawn[-1] == ROWS - 1
    assert all(left <= right for left, right in pairwise(drawn))


def test_the_axes_have_the_extremes() -> None:
    lines = loss_curve(FALLING, [(150, 1.5)], columns=COLUMNS, rows=ROWS).splitlines()
    assert lines[0].startswith("3.98 ┤")
    assert lines[ROWS - 1].startswith("   1 ┤")
    assert lines[-2].split() == ["step", "1", "150"]
    assert "training, last 1 " in lines[-1]
    assert lines[-1].endswith("validation, last 1.5")


def test_validation_is_marked_where_it_was_measured() -> None:
    (row,) = [
        row for row in cells(loss_curve(FALLING, [(150, 3.98)], columns=COLUMNS, rows=ROWS)) if MARK in row
    ]  # the legend is no row
    assert row.index(MARK) == COLUMNS - 1
    assert cells(loss_curve(FALLING, [(150, 3.98)], columns=COLUMNS, rows=ROWS))[0] == row


def test_a_jump_leaves_no_gap() -> None:
    jump = [(step, 1.0 if step < 50 else 9.0) for step in range(100)]
    assert all(
        any(line[column] != " " for line in cells(loss_curve(jump, [], columns=COLUMNS, rows=ROWS)))
        for column in range(COLUMNS)
    )
    at_jump = [
        line[COLUMNS // 2 - 1 : COLUMNS // 2 + 1].strip()
        for line in cells(loss_curve(jump, [], columns=COLUMNS, rows=ROWS))
    ]
    assert all(at_jump)


def test_more_steps_than_dots_are_averaged() -> None:
    wild = [(step, 1.0 if step % 2 else 3.0) for step in range(10_000)]
    drawn = heights(loss_curve([*wild, (10_000, 3.0)], [(0, 3.0), (1, 1.0)], columns=COLUMNS, rows=ROWS))
    middle = drawn[1:-1]
    assert max(middle) - min(middle) <= 1


def test_a_constant_loss_is_a_line_in_the_middle() -> None:
    drawn = heights(loss_curve([(1, 0.5), (9, 0.5)], [], columns=COLUMNS, rows=ROWS))
    assert set(drawn) == {ROWS // 2}


@pytest.mark.parametrize("points", [[], [(1, 2.0)], [(1, math.nan), (2, math.inf), (3, 1.0)]])
def test_too_little_to_draw(points: list[tuple[int, float]]) -> None:
    assert loss_curve(points, [(1, 1.0)]) == ""


@example([(1000, 0.5), (1001, 0.0)], [], 1, 2)  # its ends are named in more letters than it is wide
@given(series, series, st.integers(1, 120), st.integers(2, 20))
def test_any_numbers_stay_in_the_frame(
    training: list[tuple[int, float]], validation: list[tuple[int, float]], columns: int, rows: int
) -> None:
    picture = loss_curve(training, validation, columns=columns, rows=rows)
    if not picture:
        assert len([loss for _, loss in training if math.isfinite(loss)]) < 2
        return
    lines = picture.splitlines()
    assert len(lines) == rows + 3
    edge = lines[rows].index("└")
    width = len(lines[rows]) - edge - 1
    assert width == max(columns, 8)
    assert all(len(line) <= edge + 1 + width for line in lines[:rows])
    assert sum(line.count(MARK) for line in lines[:rows]) <= len(validation)
