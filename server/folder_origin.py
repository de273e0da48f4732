"""Where a store's files come from: a folder has a name there, and two folders of one name are told apart."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.fields import MOST_KEYS
from server.cli_output import printable
from server.folder import Found, Known, has_text, read

ID_DIGITS = 16  # of a SHA-256: nobody has so many folders that two would have the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A folder as a store's files name it."""

    name: str
    id: str  # hex, of the place where the folder lies

    @classmethod
    def of(cls, root: Path, known_as: str = "") -> Origin:
        """Of a folder on this machine, under its own name unless another is given."""
        place = os.path.realpath(root)
        digest = hashlib.sha256(os.fsencode(place)).hexdigest()
        return cls(name=known_as or Path(place).name, id=digest[:ID_DIGITS])

    def attributes_of(self, found: Found) -> dict[str, str]:
        """By these a file in the store is known again."""
        return {"folder": self.name, "folder_id": self.id, "path": found.path, "sha256": found.digest}

    def doubt(self, known: Sequence[Known], root: Path) -> str | None:
        """Why the files of this folder's name may be another folder's, and what to do; None when they are this one's.

        Earlier releases noted no place. Their files are this folder's when one of them lies here unchanged; a path
        alone shows nothing, since many folders have a README.md.
        """
        if any(one.folder_id not in ("", self.id) for one in known):
            return f"the store has files of another folder that is called {self.name!r}; {self._way_out}"
        if known and not any(one.folder_id == self.id or _lies_in(root, one) for one in known):
            return (
                f"the store has files of a folder that is called {self.name!r}, and this one has none of them as they "
                f"are there, so it may be another; {self._way_out}"
            )
        return None

    def claims(self, known: Sequence[Known]) -> list[tuple[Known, dict[str, object]]]:
        """Which files are to be noted as this folder's, and all attributes that each has then.

        One of an earlier release that has no room for another attribute stays as it is.
        """
        others = [one for one in known if one.folder_id != self.id]
        written = [(one, {**one.attributes, "folder_id": self.id}) for one in others]
        return [(one, attributes) for one, attributes in written if len(attributes) <= MOST_KEYS]

    @property
    def _way_out(self) -> str:
        return (
            "nothing was changed. If this is a folder of its own, give it a name of its own with --as NAME; if it is "
            f"the same folder, moved or edited, say so with --as {printable(shlex.quote(self.name))}: the store's "
            "files become this folder's, and those that it does not have are removed"
        )


def _lies_in(root: Path, known: Known) -> bool:
    try:
        return has_text(root / known.path) and read(root, known.path).digest == known.digest
    except (OSError, ValueError):  # ValueError: a path with a null character, which somebody else wrote
        return False
