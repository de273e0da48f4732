"""What a client is told when something fails: one error class, one table, three shapes.

Domain errors know nothing of HTTP; `STATUS` does, and the nearest ancestor wins. The shapes are OpenAI's
(`{"error": {message, type, param, code}}`), Anthropic's on `/v1/messages`, and Responses' `error` event in its streams.
Which exception becomes which answer in the app is told in `error_handlers.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapters import errors as adapter_errors
from adapters.training import errors as training_errors
from retrieval import errors as retrieval_errors
from server.engine.base import EngineError, EngineRefused, EngineUnavailable, LoadFailed
from server.storage import errors as storage_errors

Dialect = Literal["openai", "responses", "anthropic"]

RESTART_SECONDS = 15  # about what a dead engine needs to be back on a small machine

LONGEST_MESSAGE = 4000  # characters

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """An answer with an error status; its message is for the client and names what would work."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002  # OpenAI's own word for this field
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if len(message) > LONGEST_MESSAGE:  # what the client sent may stand in it, and that may be megabytes
            message = f"{message[:LONGEST_MESSAGE]}…"
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's shape, always with its four keys."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def anthropic_body(self, request_id: str | None = None) -> dict[str, Any]:
        """Anthropic's shape; its type follows the status, because its clients choose their exception by both."""
        kind = ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}, "request_id": request_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """How one domain error is answered."""

    status: int
    code: str
    type: str = "invalid_request_error"
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str | None = None  # told instead of the exception's own words, where those are not for clients


STATUS: dict[type[Exception], Problem] = {
    adapter_errors.AdapterError: Problem(status=400, code="adapter_error"),
    adapter_errors.AdapterNotFound: Problem(status=404, code="model_not_found", param="model"),
    adapter_errors.VersionAmbiguous: Problem(status=400, code="version_ambiguous", param="model"),
    adapter_errors.NameInvalid: Problem(status=400, code="name_invalid", param="name"),
    adapter_errors.NameTaken: Problem(status=409, code="name_taken", param="name"),
    adapter_errors.AdapterRefused: Problem(status=422, code="adapter_refused", param="file"),
    adapter_errors.SourceRefused: Problem(status=422, code="source_refused", param="source"),
    adapter_errors.SourceNotFound: Problem(status=404, code="source_not_found", param="source"),
    adapter_errors.SourceUnavailable: Problem(
        status=502, code="source_unavailable", type="server_error", param="source"
    ),
    adapter_errors.SourceTooLarge: Problem(status=413, code="source_too_large", param="source"),
    adapter_errors.OtherBase: Problem(status=409, code="other_base", param="model"),
    adapter_errors.PinLimit: Problem(status=409, code="pin_limit", param="pin"),
    adapter_errors.AliasInvalid: Problem(status=400, code="alias_invalid", param="version"),
    adapter_errors.InUse: Problem(status=409, code="in_use"),
    training_errors.TrainingError: Problem(status=400, code="training_error"),
    training_errors.JobNotFound: Problem(status=404, code="fine_tuning_job_not_found", param="fine_tuning_job_id"),
    training_errors.JobInvalid: Problem(status=400, code="invalid_value"),
    training_errors.DataInvalid: Problem(status=400, code="data_invalid", param="training_file"),
    training_errors.JobState: Problem(status=400, code="job_state", param="fine_tuning_job_id"),
    retrieval_errors.RetrievalError: Problem(
        status=500,
        code="retrieval_error",
        type="server_error",
        message="The server failed on files or stores; its log says why.",
    ),
    retrieval_errors.FileNotFound: Problem(status=404, code="file_not_found", param="file_id"),
    retrieval_errors.FileInvalid: Problem(status=400, code="file_invalid", param="file"),
    retrieval_errors.FileTooLarge: Problem(status=413, code="file_too_large", param="file"),
    retrieval_errors.StoreNotFound: Problem(status=404, code="vector_store_not_found", param="vector_store_id"),
    retrieval_errors.StoreAmbiguous: Problem(status=400, code="vector_store_ambiguous", param="vector_store_id"),
    retrieval_errors.StoreInvalid: Problem(status=400, code="invalid_value"),
    retrieval_errors.StoreExpired: Problem(status=400, code="vector_store_expired", param="vector_store_id"),
    retrieval_errors.StoreFileNotFound: Problem(status=404, code="vector_store_file_not_found", param="file_id"),
    retrieval_errors.BatchNotFound: Problem(status=404, code="file_batch_not_found", param="batch_id"),
    retrieval_errors.CursorUnknown: Problem(status=400, code="cursor_unknown", param="after"),
    retrieval_errors.FilterInvalid: Problem(status=400, code="filter_invalid", param="filters"),
    retrieval_errors.QueryInvalid: Problem(status=400, code="query_invalid", param="query"),
    retrieval_errors.OtherEmbedder: Problem(status=409, code="other_embedder", param="vector_store_id"),
    retrieval_errors.SearchFailed: Problem(
        status=503,
        code="search_failed",
        type="server_error",
        headers={"Retry-After": "1"},
        message="The search failed; the server's log says why.",
    ),
    retrieval_errors.VectorsUnavailable: Problem(
        status=503, code="vectors_unavailable", type="server_error", headers={"Retry-After": "5"}
    ),
    retrieval_errors.ParseFailed: Problem(status=422, code="parse_failed", param="file"),
    storage_errors.StorageError: Problem(
        status=500, code="storage_error", type="server_error", message="The server's storage failed; its log says why."
    ),
    storage_errors.DatabaseUnavailable: Problem(
        status=503,
        code="database_unavailable",
        type="server_error",
        headers={"Retry-After": "2"},
        message="The server's database does not answer; try again soon. Its log says why.",
    ),
    storage_errors.DatabaseFull: Problem(
        status=507,
        code="disk_full",
        type="server_error",
        message="The server's disk is full and nothing was changed; make room on it and try again.",
    ),
    storage_errors.BlobsUnavailable: Problem(
        status=503,
        code="object_store_unavailable",
        type="server_error",
        headers={"Retry-After": "5"},
        message="The server's object store does not answer; try again soon. Its log says why.",
    ),
    storage_errors.DataDirBusy: Problem(status=409, code="data_dir_busy"),
    # commands only: no route makes or reads a backup
    storage_errors.BackupFailed: Problem(status=409, code="backup_failed"),
    storage_errors.BackupInvalid: Problem(status=422, code="backup_invalid"),
    storage_errors.FileInvalid: Problem(
        status=500,
        code="file_invalid",
        type="server_error",
        message="A file that the server is set up with cannot be used; its log says which.",
    ),
    storage_errors.ManagedByFile: Problem(status=409, code="managed_by_file"),
    storage_errors.KeyNotFound: Problem(status=404, code="key_not_found"),
    storage_errors.KeyAmbiguous: Problem(status=400, code="key_ambiguous"),
    storage_errors.KeyInvalid: Problem(status=400, code="key_invalid"),
    storage_errors.ResponseNotFound: Problem(status=404, code="response_not_found", param="response_id"),
    storage_errors.ResponseUnfinished: Problem(status=400, code="response_unfinished", param="previous_response_id"),
    storage_errors.ConversationTooLong: Problem(status=400, code="conversation_too_long", param="previous_response_id"),
    storage_errors.CursorUnknown: Problem(status=400, code="cursor_unknown", param="after"),
    storage_errors.AssistantNotFound: Problem(status=404, code="assistant_not_found", param="model"),
    storage_errors.AssistantInvalid: Problem(status=400, code="assistant_invalid"),
    EngineError: Problem(
        status=500, code="engine_error", type="server_error", message="The engine failed; the server's log says why."
    ),
    EngineRefused: Problem(status=400, code="invalid_value"),  # its own status and type stand
    EngineUnavailable: Problem(
        status=503, code="engine_unavailable", type="server_error", headers={"Retry-After": str(RESTART_SECONDS)}
    ),
    LoadFailed: Problem(status=500, code="adapter_load_failed", type="server_error", param="model"),
}


def to_api_error(error: Exception) -> ApiError:
    """The answer for any exception: its own, the table's (nearest ancestor), or a 500 that tells no internals."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineRefused):
        return ApiError(error.status, error.message, type=error.kind, param=error.param)
    problem = next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), None)
    if problem is None:
        return internal_error()
    kind = getattr(error, "kind", None)  # what preflight or a source found wrong, e.g. "nan_weights"
    code = kind if isinstance(kind, str) else problem.code
    message = problem.message or str(error)
    param = getattr(error, "param", None) or problem.param  # its own word for the field says more than the table's
    return ApiError(problem.status, message, type=problem.type, param=param, code=code, headers=problem.headers)


def internal_error() -> ApiError:
    """A failure of ours; the log line with the same request id says which."""
    message = "The server failed on this request; its log says why, under the X-Request-Id of this answer."
    return ApiError(500, message, type="server_error", code="internal_error")


def model_not_found(name: str) -> ApiError:
    """The same answer for a model that does not exist and for one that the caller may not use."""
    message = f"The model {name!r} does not exist or you may not use it; GET /v1/models lists those you may."
    return ApiError(404, message, param="model", code="model_not_found")


def invalid_request(problems: Iterable[Mapping[str, Any]], *, located: bool = False) -> ApiError:
    """400 from pydantic's `.errors()`: the first field is `param`, at most three are told.

    located: the first part of each place is where it stood in the request, such as "body" or "query"; FastAPI says so.
    """
    told = [(_field(problem["loc"][located:]), _sentence(problem)) for problem in problems]
    sentences = [f"{field}: {sentence}" if field else sentence for field, sentence in told[:3]]
    if len(told) > 3:
        sentences.append(f"and {len(told) - 3} more")
    return ApiError(400, "; ".join(sentences), param=told[0][0] or None, code="invalid_value")


def sse_error(error: Exception, dialect: Dialect = "openai", *, sequence_number: int = 0) -> bytes:
    """One server-sent event that tells of a failure after the status line has gone out."""
    answer = to_api_error(error)
    if dialect == "anthropic":
        return b"event: error\ndata: " + encoded(answer.anthropic_body()) + b"\n\n"
    if dialect == "responses":
        event = {
            "type": "error",
            "code": answer.code,
            "message": answer.message,
            "param": answer.param,
            "sequence_number": sequence_number,
        }
        return b"event: error\ndata: " + encoded(event) + b"\n\n"
    return b"data: " + encoded(answer.body()) + b"\n\n"


def encoded(value: Mapping[str, Any]) -> bytes:
    """An error's JSON; what a client sent may stand in it, also text that has no UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _field(location: Iterable[str | int]) -> str:
    """`("messages", 0, "role")` as clients write it: `messages[0].role`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sentence(problem: Mapping[str, Any]) -> str:
    kind, message = problem.get("type", ""), str(problem.get("msg", "invalid"))
    if kind == "json_invalid":
        detail = problem.get("ctx", {}).get("error", "syntax error")
        return f"the body is not JSON ({detail}, at character {problem['loc'][-1]})"
    if kind == "missing":
        return "required, but missing"
    if kind == "extra_forbidden":
        return "unknown field; leave it out"
    message = message.removeprefix("Value error, ")
    given = problem.get("input")
    if isinstance(given, (bool, int, float)) or (isinstance(given, str) and len(given) <= 40):
        return f"{message}, got {given!r}"
    return message
