"""What can go wrong with files, stores and searches. Nothing here knows HTTP: the server has one table for that.

RetrievalError
├── FileNotFound        no such file, or it is somebody else's
├── FileInvalid         a file cannot be taken like that: an unknown purpose, an empty name, no bytes
├── FileTooLarge        more bytes than allowed
├── StoreNotFound       no such vector store
├── StoreAmbiguous      a name means several stores
├── StoreInvalid        a store, or a file in one, cannot be like that
├── StoreExpired        the store's time is over
├── StoreFileNotFound   the file is not in this store
├── BatchNotFound       no such batch of files
├── CursorUnknown       a page after something that is not in the list
├── FilterInvalid       a filter that means nothing
├── QueryInvalid        a question that cannot be searched for
├── OtherEmbedder       the store's vectors were made by another model
├── SearchFailed        an index or the database did not answer
├── VectorsUnavailable  vectors that are kept elsewhere cannot be searched now
└── ParseFailed         no text could be taken from a file
"""

from __future__ import annotations

from typing import Literal

ParseCode = Literal["server_error", "unsupported_file", "invalid_file"]  # OpenAI's, in `last_error.code`


class RetrievalError(Exception):
    """Any failure to keep, read, index or find something."""

    param: str | None = None  # the client's field that is to blame, where one is


class _Param(RetrievalError):
    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class FileNotFound(RetrievalError):
    """No file has that id, it has expired, or it belongs to somebody else: all three look the same."""


class FileInvalid(_Param):
    """A file cannot be taken like that; the message names the field."""


class FileTooLarge(RetrievalError):
    """More bytes than one file may have."""


class StoreNotFound(RetrievalError):
    """No vector store has that id or name, or it belongs to somebody else."""


class StoreAmbiguous(RetrievalError):
    """A name means several stores; the message lists their ids."""


class StoreInvalid(_Param):
    """A store, a file in one or a batch cannot be like that; the message names the field."""


class StoreExpired(RetrievalError):
    """The store's time is over: what it held is gone."""


class StoreFileNotFound(RetrievalError):
    """The file is not in this store."""


class BatchNotFound(RetrievalError):
    """No batch of this store has that id."""


class CursorUnknown(RetrievalError):
    """A page was asked for that begins after or ends before something that is not in the list."""


class FilterInvalid(_Param):
    """A filter that means nothing; the message says where."""


class QueryInvalid(_Param):
    """A question that cannot be searched for: empty, or too long."""


class OtherEmbedder(RetrievalError):
    """The store's vectors were made by another embedding model, and must not be mixed with this one's."""


class SearchFailed(RetrievalError):
    """An index or the database did not answer."""


class VectorsUnavailable(RetrievalError):
    """The vectors are in Milvus, which does not answer or has not got them all yet; words can be searched meanwhile."""


class ParseFailed(RetrievalError):
    """No text could be taken from a file; the message is a sentence that helps its owner."""

    def __init__(self, code: ParseCode, message: str) -> None:
        super().__init__(code, message)  # both, so that it survives pickling between processes
        self.code: ParseCode = code
        self.message = message

    def __str__(self) -> str:
        return self.message
