"""What can go wrong with fine-tuning. Nothing here knows HTTP: the server has one table for that.

TrainingError
├── JobNotFound       no such job, or not the caller's
├── JobInvalid        what the request asks for cannot be done; `param` names the field
├── DataInvalid       a line of a training file cannot be used
└── JobState          what was asked for does not fit the job's status
"""

from __future__ import annotations

from adapters.errors import AdapterError


class TrainingError(AdapterError):
    """Any failure around fine-tuning jobs."""


class JobNotFound(TrainingError):
    """No job has that id, or it is another owner's."""


class JobInvalid(TrainingError):
    """A request that cannot become a job; `param` is the field that is wrong."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class DataInvalid(TrainingError):
    """A training or validation file that cannot be used: `line` counts from 1, 0 speaks of the whole file."""

    def __init__(self, kind: str, line: int, message: str) -> None:
        super().__init__(kind, line, message)  # all three, so that it survives pickling
        self.kind = kind  # a slug: "not_json", "no_assistant", …
        self.line = line
        self.message = message

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


class JobState(TrainingError):
    """A job that is over cannot be cancelled, one that does not run cannot be paused."""
