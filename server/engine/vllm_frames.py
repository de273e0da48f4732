"""vLLM's errors in our words, and the few frames of a stream that need mending.

Works on plain dictionaries and strings, so it is tested without vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from server.engine.base import Dialect, EngineRefused, EngineUnavailable, Usage

# with adapters switched on vLLM's engine dies of them as soon as two requests run at once
PROMPT_LOGPROBS = "log-probabilities are given for the answer's tokens only"

# fields that would let a client reach past its rights or make other requests pay
REFUSED_FIELDS = {
    "prompt_embeds": "send text or token ids",
    "kv_transfer_params": "it is set by the server only",
    "ec_transfer_params": "it is set by the server only",
    "chat_template": "templates come with the base model",
    "priority": "every caller has the same priority",
    "cache_salt": "the prefix cache is shared by design",
    "request_id": "send the X-Request-Id header",
    "prompt_logprobs": PROMPT_LOGPROBS,
}

CONSTRAINTS = ("response_format", "structured_outputs", "text", "output_config")  # each dialect's word for a form

LARGEST_FORM = 64 * 1024  # characters of a schema, grammar or list of tools as JSON

MOST_STOPS = 4  # strings in `stop`, as at OpenAI; `stop_sequences` has vLLM's own limit, which boot.py raises

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "invalid_request_error",
    503: "server_error",
}


def refused_fields(body: Mapping[str, Any]) -> None:
    """Refuse fields that belong to the server; raises EngineRefused naming the field and the way out."""
    for name, way_out in REFUSED_FIELDS.items():
        if body.get(name) is not None:
            raise EngineRefused(f"{name!r} is not accepted: {way_out}", param=name)
    if any(_is_embeddings(part) for field in ("messages", "input") for part in _parts(body.get(field))):
        raise EngineRefused(
            f"'prompt_embeds' is not accepted: {REFUSED_FIELDS['prompt_embeds']}", param="prompt_embeds"
        )
    for name, value in body.items():
        if isinstance(value, int) and not -(2**63) <= value < 2**64:  # fails on its way to vLLM's core, as a 500
            raise EngineRefused(f"{name}: the number is too large", param=name)
    stops = body.get("stop")
    if isinstance(stops, list) and len(stops) > MOST_STOPS:
        raise EngineRefused(f"stop: {len(stops)} strings; at most {MOST_STOPS} are taken", param="stop")
    if body.get("structured_outputs") is not None and not isinstance(body["structured_outputs"], dict):
        raise EngineRefused(  # vLLM takes it for an object before it looks, and fails
            "structured_outputs: an object such as {'choice': ['yes', 'no']}", param="structured_outputs"
        )
    for name in (*CONSTRAINTS, "tools"):
        size = len(json.dumps(body[name])) if isinstance(body.get(name), (dict, list)) else 0
        if size > LARGEST_FORM:  # compiling a form takes longer than its length and holds up everybody
            raise EngineRefused(f"{name}: {size} characters; at most {LARGEST_FORM} are compiled", param=name)
    if body.get("echo") and (body.get("logprobs") is not None or "messages" in body):
        raise EngineRefused(f"'echo' with 'logprobs' is not accepted: {PROMPT_LOGPROBS}", param="echo")


def without_nulls(body: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The body as vLLM validates it: in OpenAI's fields null is the default, which vLLM refuses in some of these two.

    It refuses none of OpenAI's in chat. In completions `max_tokens` keeps it: as much as the context has room for.
    """
    if dialect not in ("completions", "responses"):
        return dict(body)
    kept = "max_tokens" if dialect == "completions" else None
    return {name: value for name, value in body.items() if value is not None or name == kept}


def _parts(turns: object) -> Iterator[object]:
    for turn in turns if isinstance(turns, list) else ():
        content = turn.get("content") if isinstance(turn, Mapping) else None
        yield from content if isinstance(content, list) else ()


def _is_embeddings(part: object) -> bool:
    return isinstance(part, Mapping) and (part.get("type") == "prompt_embeds" or "prompt_embeds" in part)


def known_ids(tokens: Sequence[int], vocabulary: int) -> None:
    """Refuse ids that no token has, which vLLM would pass over; raises EngineRefused."""
    unknown = next((token for token in tokens if not 0 <= token < vocabulary), None)
    if unknown is not None:
        raise EngineRefused(f"tokens: {unknown} is no token; ids are below {vocabulary}", param="tokens")


def refusal(error: Mapping[str, Any]) -> EngineRefused | EngineUnavailable:
    """vLLM's error object as one of the port's errors."""
    status = int(error.get("code") or 500)
    message = str(error.get("message") or "the engine failed")
    if status == 503:
        return EngineUnavailable(message)
    return EngineRefused(
        message, status=status, kind=KINDS.get(status, "invalid_request_error"), param=error.get("param")
    )


def blamed_on_grammar(error: EngineRefused, body: Mapping[str, Any]) -> EngineRefused:
    """The same error, or a 400 where the answer's form was prescribed and the engine failed on this request alone.

    vLLM checks that a grammar can be read, and finds out only at the first token that no text has the form; a schema
    that is nothing but a reference to itself is one.
    """
    given = prescribing(body)
    if error.status != 500 or given is None:
        return error
    return EngineRefused(
        f"{given}: the engine found no text of this form; look for a rule or $ref that leads only to itself",
        param=given,
    )


def prescribing(body: Mapping[str, Any]) -> str | None:
    """The field of a request that prescribes the form of its answer, such as a JSON schema; None where it is free."""
    return next((name for name in CONSTRAINTS if _prescribes(name, body.get(name))), None)


def _prescribes(name: str, value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    form = value.get("format") if name in ("text", "output_config") else value
    return isinstance(form, Mapping) and form.get("type") != "text"


def validation_refusal(error: ValidationError) -> EngineRefused:
    """The first thing wrong with a body, said in one line with the field's path."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    shortest = min(problems, key=lambda problem: len(problem["loc"]))
    names = [str(part) for part in shortest["loc"] if not isinstance(part, str) or part.replace("_", "").isalnum()]
    path = ".".join(names)
    message = shortest["msg"].removeprefix("Value error, ")
    return EngineRefused(f"{path}: {message}" if path else message, param=path or None)


def event_usage(usage: Mapping[str, Any] | None) -> Usage:
    """Token counts from any dialect's usage object."""
    usage = usage or {}
    return Usage(
        prompt_tokens=int(usage.get("prompt_tokens") or usage.get("input_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or usage.get("output_tokens") or 0),
    )


def mended(frame: str, dialect: str, *, first: bool) -> str:
    """A frame as the dialect's clients expect it; only error frames are ever changed.

    Raises EngineRefused or EngineUnavailable when the first frame is an error: nothing was sent, so it gets a status.
    """
    if dialect == "messages":
        if not frame.startswith("event: error"):
            return frame
        error = json.loads(frame.partition("data: ")[2]).get("error") or {}
        if first:
            raise refusal({"code": 500, "message": error.get("message")})
        shown = {"type": "error", "error": {"type": "api_error", "message": error.get("message") or "internal error"}}
        return f"event: error\ndata: {json.dumps(shown)}\n\n"
    if not frame.startswith('data: {"error"'):
        return frame
    problem = refusal(json.loads(frame.removeprefix("data: "))["error"])
    if first:
        raise problem
    kind = problem.kind if isinstance(problem, EngineRefused) else "server_error"
    body = {"error": {"message": str(problem), "type": kind, "param": None, "code": None}}
    return f"data: {json.dumps(body)}\n\n"
