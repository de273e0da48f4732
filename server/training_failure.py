"""What an exception of training means for its job: a code for programs and a sentence for people."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from adapters.errors import AdapterError, AdapterRefused
from adapters.training.errors import DataInvalid, JobInvalid
from retrieval.errors import RetrievalError
from server.storage.errors import DatabaseFull

LONGEST_MESSAGE = 1000
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a failed job says: OpenAI's `error` object."""

    code: str
    message: str
    param: str | None = None


class BaseUnusable(Exception):
    """The server's base cannot be read, or is not the one that the job was made for."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def failure(error: Exception) -> Failure:
    """For any exception; those that nobody foresaw are named as they are."""
    if isinstance(error, DataInvalid):  # the file was read when the job was made, so this is rare
        return Failure(code=error.kind or "data_invalid", message=str(error), param="training_file")
    if isinstance(error, JobInvalid):
        return Failure(code="invalid_value", message=str(error), param=error.param)
    if isinstance(error, BaseUnusable):
        return Failure(code=error.code, message=str(error), param="model")
    if isinstance(error, AdapterRefused):
        return Failure(code=error.kind or "adapter_refused", message=f"what was trained cannot be served: {error}")
    if isinstance(error, AdapterError | RetrievalError):
        return Failure(code="publication_failed", message=f"the version could not be registered: {error}")
    if _is_memory(error):
        message = "memory ran out; a smaller batch_size, shorter examples or quantization 'nf4' take less"
        return Failure(code="out_of_memory", message=message)
    return Failure(code="training_failed", message=f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE])


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, or the user's part of it, is full: training can go on when there is room again."""
    if isinstance(error, DatabaseFull):
        return True
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    # torch and safetensors write in C++ and in Rust, and tell it in words only
    return "No space left on device" in str(error) or (error.__cause__ is not None and is_disk_full(error.__cause__))


def _is_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # torch's, GPU and CPU
