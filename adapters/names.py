"""The grammar of names and versions: `name`, `name@<6 to 64 hex digits>`, and `ft:<base>::<name>:<the same digits>`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from adapters.errors import AdapterNotFound, NameInvalid, VersionAmbiguous

SHORT_DIGITS = 12  # of a digest, in a version's id
MIN_DIGITS = 6  # of a digest, in what clients may send

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,95}")
_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},64}}")
_PERMANENT = re.compile(rf"ft:(.+?)::({_NAME.pattern}):([0-9A-Fa-f]{{{MIN_DIGITS},64}})")


def check_name(name: str) -> None:
    """Raise NameInvalid unless the name may be given to an adapter."""
    if not _NAME.fullmatch(name):
        raise NameInvalid(
            f"{shown(name)} cannot be an adapter's name; "
            "use 1 to 96 letters, digits, '.', '_', ':' or '-', the first a letter or digit"
        )
    if name.startswith("ft:"):
        raise NameInvalid(f"{shown(name)} begins as the permanent names of versions do, with 'ft:'; choose another")


def split(model: str) -> tuple[str, str | None]:
    """`name@prefix` as (name, prefix in lower case), `name` as (name, None); checks neither part."""
    name, at, prefix = model.partition("@")
    return name, prefix.lower() if at else None


def split_permanent(model: str) -> tuple[str, str] | None:
    """`ft:<base>::<name>:<digits>`, as fine-tuning jobs give it out, as (base, `name@digits`); None for all else."""
    found = _PERMANENT.fullmatch(model)
    return (found[1], f"{found[2]}@{found[3]}") if found else None


def find_digest(name: str, prefix: str, digests: Iterable[str]) -> str:
    """The one digest that starts with the prefix.

    Raises NameInvalid for what cannot be a prefix, AdapterNotFound for no match, VersionAmbiguous for several.
    """
    if not _PREFIX.fullmatch(prefix):
        raise NameInvalid(f"{shown(prefix)} is no version; after '@' stand {MIN_DIGITS} to 64 hex digits of its digest")
    digests = list(digests)
    matches = [digest for digest in digests if digest.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(f"{name}@{digest}" for digest in sorted(matches))
    if matches:
        raise VersionAmbiguous(f"{name}@{prefix} matches {len(matches)} versions: {listed}; give more digits")
    raise AdapterNotFound(f"adapter {name!r} has no version {shown(prefix)}")


def shown(text: str) -> str:
    """What a client sent, quoted for a message and never longer than a name can be."""
    return repr(text if len(text) <= 96 else f"{text[:96]}…")
