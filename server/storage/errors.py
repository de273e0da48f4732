"""What can go wrong with what the server keeps. Nothing here knows HTTP: `server/errors.py` has one table for that.

StorageError
├── DatabaseUnavailable     the database does not answer, or its disk is full
│   ├── DatabaseFull        its disk is full
│   ├── DatabaseNewer       a newer manyhats wrote it
│   └── DatabaseUnfinished  another installation is being moved into it
├── BlobsUnavailable        the object store does not answer, or refuses
├── DataDirBusy             another server holds the data directory
├── BackupFailed            a backup, its restoration or a move cannot be carried out
│   └── BackupInvalid       what shall be a backup is none, is damaged, or is a newer manyhats'
├── FileInvalid             a keys or assistants file cannot be used
├── ManagedByFile           the entry comes from a file, which the API does not change
├── KeyNotFound             no such API key
├── KeyAmbiguous            an id prefix or name matches several keys
├── KeyInvalid              a key cannot be made like that
├── ResponseNotFound        no such stored response, or it belongs to somebody else
├── ResponseUnfinished      a response that is still being made cannot be continued
├── ConversationTooLong     more responses follow each other than one request may build on
├── AssistantNotFound       no assistant has that id or name
├── AssistantInvalid        an assistant cannot be like that
└── CursorUnknown           a page cannot begin there

Names are one namespace with adapters: a taken or bad one raises `NameTaken` or `NameInvalid` of `adapters.errors`.
"""

from __future__ import annotations


class StorageError(Exception):
    """Any failure of what the server keeps."""


class DatabaseUnavailable(StorageError):
    """The database does not answer, is locked for too long, or its disk is full; the message has the driver's words."""


class DatabaseFull(DatabaseUnavailable):
    """Nothing was written, because the database's disk is full; what is there can be read."""


class DatabaseNewer(DatabaseUnavailable):
    """The database was written by a newer manyhats than this one."""


class BlobsUnavailable(StorageError):
    """The object store that blobs are kept in does not answer, or not as it should."""


class DatabaseUnfinished(DatabaseUnavailable):
    """Only a part of another installation's rows is in the database as yet."""


class BackupFailed(StorageError):
    """A backup, its restoration or a move cannot be carried out; the message says what would work."""


class BackupInvalid(BackupFailed):
    """Not a backup, an incomplete or damaged one, or one that a newer manyhats made."""


class DataDirBusy(StorageError):
    """Another server holds the data directory; the message says where it listens."""


class FileInvalid(StorageError):
    """A keys or assistants file that cannot be used; the message names the file and the entry."""


class ManagedByFile(StorageError):
    """The entry comes from a file that the operator edits; the API does not change it."""


class KeyNotFound(StorageError):
    """No API key has that id, id prefix or name."""


class KeyAmbiguous(StorageError):
    """An id prefix or name matches several keys; the message lists them."""


class KeyInvalid(StorageError):
    """A key cannot be made like that: an unknown role, a limit below one, an empty name."""


class ResponseNotFound(StorageError):
    """No stored response has that id, it has expired, or it belongs to somebody else: all three look the same."""


class ResponseUnfinished(StorageError):
    """A response that is still queued or in progress cannot be continued yet."""


class ConversationTooLong(StorageError):
    """More responses follow each other than one request may build on."""


class AssistantNotFound(StorageError):
    """No assistant has that id or name."""


class AssistantInvalid(StorageError):
    """An assistant cannot be like that; the message names the field, and `param` is it."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class CursorUnknown(StorageError):
    """A page was asked for that begins after or ends before something that is not in the list."""
