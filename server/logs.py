"""Log lines, for people or for programs: who asked for what, how it ended, how long it took.

One line per request and the lines of our own code, uvicorn's and vLLM's have the same form, and the same request id
stands in the line and in the answer's `X-Request-Id`. Never logged: keys, prompts, answers, query strings.
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from server.settings import Settings

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
PLAIN_VALUE = re.compile(r"[\w.,:;/@+*()-]+")
# pydantic puts what it was given into its messages, and that may be a prompt
GIVEN_VALUE = re.compile(r"input_value=.*?, input_type=", re.DOTALL)
# what these say about themselves while they start hides what the server says; at level debug they may speak
TALKATIVE = ("vllm", "alembic", "faiss", "sentence_transformers", "uvicorn.error")
CHATTY = (
    "httpx",
    "httpx2",
    "httpcore",
    "botocore",
    "aiobotocore",
    "s3fs",
    "fsspec",
    "asyncio",
    "multipart",
    "python_multipart",
)

QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TORCH_LOGS": "-torch._library",
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::UserWarning",
}

LogFormat = Literal["text", "json"]


class LineFormatter(logging.Formatter):
    """One record, one line; `log_format` is "text" or "json". Fields come by `extra={"fields": {…}}`."""

    def __init__(self, log_format: LogFormat = "text") -> None:
        super().__init__()
        self.log_format = log_format

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        fields = _fields(record)
        if record.exc_info:
            fields["exception"] = _without_values(self.formatException(record.exc_info))
        message = _without_values(record.getMessage())
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self.log_format == "json":
            line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": message}
            return json.dumps(line | fields, ensure_ascii=False, default=str)
        exception = fields.pop("exception", "")
        told = " ".join(f"{name}={_value(value)}" for name, value in fields.items())
        text = f"{time} {record.levelname:<7} {record.name} {_one_line(message)} {told}".rstrip()
        return f"{text}\n{exception}" if exception else text


class KnownNoise(logging.Filter):
    """Keeps back warnings that are true on every CPU start and that nobody can or need act on."""

    KNOWN = (
        "Triton is not installed",
        "Model Runner V2 requires Triton",
        "Enforce eager set",
        "Inductor compilation was disabled",
        "Reset SSM cache type",
        "libtcmalloc is not found",
        "libiomp is not found",
        "different tokenizers for different LoRAs",
        "requires system-first ordering",
        "resource_tracker",
    )

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told."""
        if record.levelno > logging.WARNING:
            return True
        message = record.getMessage()
        return not any(known in message for known in self.KNOWN)


def quiet_children(settings: Settings) -> None:
    """Let libraries draw no progress bars and raise no warnings of their own, in vLLM's processes too; not at debug."""
    if settings.log_level == "debug":
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def configure(settings: Settings) -> None:
    """Send everything that this process logs to stderr in our form. Safe to call again."""
    logging.config.dictConfig(_config(settings))
    logging.captureWarnings(capture=True)


def configure_engine(settings: Settings) -> None:
    """Let vLLM's processes log in our form too; call it before vllm is imported.

    vLLM sets up logging in each of its processes from a file that an environment variable names.
    """
    file = Path(settings.data_dir) / "engine-logging.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(_config(settings)))
    os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(file.resolve())
    os.environ.setdefault("VLLM_LOGGING_LEVEL", settings.log_level.upper())
    # the file names our formatter, which must be found there even when vLLM starts a Python of its own
    paths = [str(Path(__file__).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def _config(settings: Settings) -> dict[str, Any]:
    level = settings.log_level.upper()
    talkative = "WARNING" if level == "INFO" else level
    routed: dict[str, Any] = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "server.logs.LineFormatter", "log_format": settings.log_format}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}
            | ({} if level == "DEBUG" else {"filters": ["known"]})
        },
        "filters": {"known": {"()": "server.logs.KnownNoise"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "uvicorn": {**routed, "level": level},
            "uvicorn.access": {**routed, "level": "WARNING"},  # our own line says more
            **{name: {**routed, "level": talkative, "filters": []} for name in TALKATIVE},
            **{name: {"level": "WARNING"} for name in CHATTY},
        },
    }


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = dict(getattr(record, "fields", {}))
    request_id = REQUEST_ID.get()
    if request_id:
        fields = {"request_id": request_id} | fields
    process = getattr(record, "vllm_process_name", None)  # vLLM's core and workers say who they are
    if process not in (None, "MainProcess"):
        fields["process"] = process
    return {name: value for name, value in fields.items() if value is not None}


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if PLAIN_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=not text.isprintable())


def _one_line(message: str) -> str:
    """Without what ends a line, moves a terminal's cursor or turns text round: a client's must not look like ours."""
    if message.isprintable():
        return message
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def _without_values(text: str) -> str:
    return GIVEN_VALUE.sub("input_value=…, input_type=", text) if "input_value=" in text else text
