"""What can go wrong with adapters. Nothing here knows HTTP: the server has one table for that.

AdapterError
├── AdapterNotFound     no such name or version
├── VersionAmbiguous    a version prefix matches several
├── NameInvalid         a name that may not be given
├── NameTaken           the name means something else already
├── AdapterRefused      the files are not an adapter that this base can serve
├── SourceRefused       the place, or what lies there, may not be read
├── SourceNotFound      nothing lies there
├── SourceUnavailable   a remote place did not answer
├── SourceTooLarge      more bytes than allowed
├── OtherBase           made for a base model that is not served now
├── PinLimit            no slot is left to pin into
├── AliasInvalid        the alias cannot move there
└── InUse               requests still need it
"""

from __future__ import annotations


class AdapterError(Exception):
    """Any failure to register, find, change or load an adapter."""

    kind: str | None = None  # a slug that programs may compare; None where the class says it all


class AdapterNotFound(AdapterError):
    """No adapter or version has that name."""


class VersionAmbiguous(AdapterError):
    """A version prefix matches several; the message lists them."""


class NameInvalid(AdapterError):
    """A name outside `[A-Za-z0-9][A-Za-z0-9._:-]{0,95}`."""


class NameTaken(AdapterError):
    """Other bytes under a taken name, or the name of the base, the embedder or an assistant."""


class AdapterRefused(AdapterError):
    """Preflight: these files are no adapter that this base model can serve; `kind` is a slug such as "nan_weights"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)  # both, so that it survives pickling between processes
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


class SourceRefused(AdapterError):
    """The source is not on the allow-list, or what lies there may not be unpacked; `kind` is a slug."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


class SourceNotFound(AdapterError):
    """Nothing lies at the source."""


class SourceUnavailable(AdapterError):
    """A remote source did not answer, or answered with a failure."""


class SourceTooLarge(AdapterError):
    """The source holds more bytes than one adapter may have."""


class OtherBase(AdapterError):
    """The adapter was made for a base model that is not the one served now."""


class PinLimit(AdapterError):
    """All slots but one are pinned; the last one stays free for everybody else."""


class AliasInvalid(AdapterError):
    """Bad traffic weights, no previous version, or a version that is not ready."""


class InUse(AdapterError):
    """Requests still need it."""
