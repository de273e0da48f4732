"""Tables as text: each row by itself, every value after the name of its column.

A chunk may begin anywhere in a table. With the names in each row it says what its numbers are, to the embedder, to word
search and to the model that reads it; a bare row `7, 12, yes` says nothing without a header far above.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain


def rows_as_text(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """One block of lines `column: value` per row, empty values left out.

    The first row holds the names of the columns where each of its cells is a different word that is no number; else
    rows come as they are, with commas.
    """
    rest = iter(rows)
    first = next((row for row in rest if any(cell.strip() for cell in row)), None)
    if first is None:
        return
    names = [" ".join(cell.split()) for cell in first]
    if not _are_names(names):
        for row in chain([first], rest):
            yield ", ".join(cell.strip() for cell in row if cell.strip())
        return
    only_names = True
    for row in rest:
        lines = [
            f"{name}: {cell.strip()}" if name else cell.strip()
            for name, cell in zip(chain(names, [""] * (len(row) - len(names))), row, strict=False)
            if cell.strip()
        ]
        if lines:
            only_names = False
            yield "\n".join(lines)
    if only_names:
        yield ", ".join(name for name in names if name)


def _are_names(cells: Sequence[str]) -> bool:
    while cells and not cells[-1]:  # a trailing delimiter
        cells = cells[:-1]
    filled = [cell for cell in cells if cell]
    return len(filled) == len(set(filled)) and 2 * len(filled) > len(cells) and not any(map(_is_number, filled))


def _is_number(cell: str) -> bool:
    digits = cell.translate(str.maketrans("", "", " +-.,%$€£/:"))
    return digits.isdigit()
