"""A Dockerfile as a list of instructions: enough to ask what it copies, runs and sets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

OPTION = re.compile(r"--([\w-]+)=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`COPY --from=environment a b`: its word, its options and the rest."""

    word: str
    text: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, word: str) -> list[Instruction]:
        """Those of one word, in their order."""
        return [one for one in self.instructions if one.word == word]


def stages(path: Path) -> list[Stage]:
    """The stages of a file, in their order; what stands before the first FROM is left out."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(name, base, ()))
        elif found:
            options = {}
            while option := OPTION.match(rest):
                options[option[1]] = option[2]
                rest = rest[option.end() :]
            last = found.pop()
            instructions = (*last.instructions, Instruction(word, " ".join(rest.split()), options))
            found.append(Stage(last.name, last.base, instructions))
    return found
