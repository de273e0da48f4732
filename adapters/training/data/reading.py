"""From a training file to its examples; what cannot be used is an error that names its line."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import overload

from adapters.training.data.chat import Chat, chat_of
from adapters.training.data.lines import Line, lines
from adapters.training.data.preference import Preference, preference_of
from adapters.training.data.text import Text, documents, is_plain, text_of_document, text_of_object
from adapters.training.errors import DataInvalid
from adapters.training.method import Kind

Example = Chat | Preference | Text


def read(path: Path, kind: Kind) -> list[Chat] | list[Preference] | list[Text]:
    """All examples, in the file's order: Chat for supervised and prompt_tuning, Preference for dpo, else Text.

    Raises DataInvalid (docs/training-data.md lists its kinds) at the first line that cannot be used.
    """
    return list(stream(path, kind))  # type: ignore[return-value]  # one file holds one kind, which mypy cannot see


def check(path: Path, kind: Kind) -> int:
    """How many examples there are, each read and forgotten: for files too large to hold. Raises as `read`."""
    return sum(1 for _ in stream(path, kind))


def stream(path: Path, kind: Kind) -> Iterator[Example]:
    """As `read`, one example in memory at a time."""
    records, parsed = _records(path, kind)
    is_empty = True
    for record in records:
        is_empty = False
        yield parsed(record)
    if is_empty:
        raise _no_examples()


class Examples(Sequence[Example]):
    """The examples of a file, read when they are asked for: 24 bytes of memory for each. Raises as `read`, then."""

    def __init__(self, path: Path, kind: Kind) -> None:
        records, self._parsed = _records(path, kind)
        self._path = path
        self._numbers, self._starts, self._ends = array("q"), array("q"), array("q")
        for record in records:
            self._numbers.append(record.number)
            self._starts.append(record.start)
            self._ends.append(record.end)
        if not self._numbers:
            raise _no_examples()

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...

    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        number, start, end = self._numbers[place], self._starts[place], self._ends[place]
        with self._path.open("rb") as file:
            file.seek(start)
            return self._parsed(Line(number, start, end, file.read(end - start)))

    def n_bytes(self, place: int) -> int:
        """How much of the file an example is."""
        return self._ends[place] - self._starts[place]


def _records(path: Path, kind: Kind) -> tuple[Iterator[Line], Callable[[Line], Example]]:
    match kind:
        case "dpo":
            return _filled(path), preference_of
        case "continued_pretraining":
            if is_plain(path):
                return documents(path), text_of_document
            return _filled(path), text_of_object
        case _:
            return _filled(path), lambda line: chat_of(line, kind)


def _filled(path: Path) -> Iterator[Line]:
    return (line for line in lines(path) if line.raw.strip())


def _no_examples() -> DataInvalid:
    return DataInvalid("no_examples", 0, "the file has no example; write at least one, each on its own line")
