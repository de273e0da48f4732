"""A loss curve of characters: training as a line of braille dots, validation as marks on it; no colour is needed.

A braille character holds 2 × 4 dots (Unicode block 2800); its code is the sum of its dots' bits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Points = Sequence[tuple[int, float]]  # (step, loss), in the order of steps

BLANK = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # a cell's bits by row and column
DOT_COLUMNS, DOT_ROWS = 2, 4
MARK = "●"
LINE = "⠒⠒"
LEAST_COLUMNS = 8


def loss_curve(training: Points, validation: Points, *, columns: int = 64, rows: int = 10) -> str:
    """The lines of the picture, `columns` characters and the labels wide; "" where fewer than two steps are known.

    More steps than dots are averaged by column. A loss that is no finite number is left out.
    """
    training, validation = _finite(training), _finite(validation)
    if len({step for step, _ in training}) < 2:  # a line needs two points
        return ""
    both = [*training, *validation]
    frame = _Frame(
        columns=max(columns, LEAST_COLUMNS),
        rows=rows,
        first=min(step for step, _ in both),
        last=max(step for step, _ in both),
        low=min(loss for _, loss in both),
        high=max(loss for _, loss in both),
    )
    frame.line(training)
    frame.marks(validation)
    legend = f"{LINE} training, last {training[-1][1]:.3g}"
    if validation:
        legend += f"   {MARK} validation, last {validation[-1][1]:.3g}"
    return frame.drawn(legend)


def _finite(points: Points) -> list[tuple[int, float]]:
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


@dataclass(slots=True, kw_only=True)
class _Frame:
    """Where a step and a loss lie, in dots from the left and from the top."""

    columns: int
    rows: int
    first: int
    last: int
    low: float
    high: float
    cells: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))  # (row, column) → bits
    marked: set[tuple[int, int]] = field(default_factory=set)

    def line(self, points: Points) -> None:
        """Through the mean of each dot's column; neighbours are joined, so that a steep fall is no gap."""
        by_column: dict[int, list[float]] = defaultdict(list)
        for step, loss in points:
            by_column[self._x(step)].append(loss)
        at = [(x, self._y(sum(losses) / len(losses))) for x, losses in sorted(by_column.items())]
        for (left, above), (right, below) in pairwise(at):
            reach = max(right - left, abs(below - above))
            for part in range(reach + 1):
                share = part / reach
                self._dot(round(left + share * (right - left)), round(above + share * (below - above)))

    def marks(self, points: Points) -> None:
        self.marked |= {(self._y(loss) // DOT_ROWS, self._x(step) // DOT_COLUMNS) for step, loss in points}

    def drawn(self, legend: str) -> str:
        """The picture with its axes."""
        top, bottom = f"{self.high:.3g}", f"{self.low:.3g}"
        width = max(len(top), len(bottom))
        lines = []
        for row in range(self.rows):
            label = {0: top, self.rows - 1: bottom}.get(row, "")
            cells = "".join(self._cell(row, column) for column in range(self.columns)).rstrip()
            lines.append(f"{label:>{width}} {'┤' if label else '│'}{cells}")
        lines.append(f"{'':{width}} └{'─' * self.columns}")
        first, last = f"step {self.first}", str(self.last)
        space = max(self.columns - len(first), len(last) + 1)  # of a narrow curve they stand out
        lines.append(f"{'':{width}}  {first}{last:>{space}}")
        lines.append(f"{'':{width}}  {legend}")
        return "\n".join(lines)

    def _cell(self, row: int, column: int) -> str:
        if (row, column) in self.marked:
            return MARK
        bits = self.cells.get((row, column), 0)
        return chr(BLANK + bits) if bits else " "

    def _dot(self, x: int, y: int) -> None:
        self.cells[y // DOT_ROWS, x // DOT_COLUMNS] |= DOTS[y % DOT_ROWS][x % DOT_COLUMNS]

    def _x(self, step: int) -> int:
        return round((step - self.first) / (self.last - self.first) * (self.columns * DOT_COLUMNS - 1))

    def _y(self, loss: float) -> int:
        if self.high == self.low:
            return self.rows * DOT_ROWS // 2
        return round((self.high - loss) / (self.high - self.low) * (self.rows * DOT_ROWS - 1))
