"""What retrieval a request asks for: by a `file_search` tool, by the field `retrieval`, or by its assistant's stores.

What a request asks itself wins over what its assistant has: its stores, and each option that it names. Only filters add
up, so that nobody sees more of an assistant's stores than it shows. `retrieval: null` switches everything off. Whatever
was asked, the body for the engine has none of it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

from retrieval.errors import RetrievalError
from retrieval.filters import Compound
from retrieval.search import SearchOptions
from server.assistants import Plan
from server.engine.base import Dialect
from server.errors import ApiError, to_api_error
from server.search_options import read_search_options
from server.settings import Settings
from server.storage.assistant import Assistant

Markers = Literal["keep", "strip"]

RESULTS = "file_search_call.results"  # of a response's `include`
MOST_STORES = 20  # each is a search of its own
OPTIONS = ("max_num_results", "filters", "ranking_options")
TOOL_FIELDS = frozenset({"type", "vector_store_ids", *OPTIONS})
RETRIEVAL_FIELDS = frozenset({"vector_store_ids", *OPTIONS, "rewrite_query", "markers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search that a request wants before it is answered."""

    store_ids: tuple[str, ...]  # or names; at least one
    options: SearchOptions
    rewrite_query: bool
    include_results: bool  # a response's `file_search_call` shows what was found
    strip_markers: bool


def asked(
    body: dict[str, Any], plan: Plan, dialect: Dialect, settings: Settings
) -> tuple[dict[str, Any], Asked | None]:
    """The body for the engine, and the search that it asked for; None where it asked for none.

    Raises ApiError 400, which names the field.
    """
    tool, place, forwarded = _without_file_search(body, dialect)
    forwarded, include_results = _without_ours(forwarded, dialect)
    switched_off = ("retrieval" in body and body["retrieval"] is None) or (tool is not None and _no_tools(body))
    if switched_off:
        return forwarded, None
    own, param = _own(body, tool, place)
    theirs = _assistants(plan.assistant)
    if own is None and theirs is None:
        return forwarded, None
    _one_prompt(body, dialect)
    try:
        store_ids = _stores(own, theirs, param)
        options = _options(own, theirs, param, plan, settings)
    except RetrievalError as error:
        raise to_api_error(error) from error
    wanted = own or {}
    return forwarded, Asked(
        store_ids=store_ids,
        options=options,
        rewrite_query=_flag(wanted, "rewrite_query", param, default=settings.query_rewrite),
        include_results=include_results,
        strip_markers=_markers(wanted, param, default=settings.citation_markers) == "strip",
    )


def _without_file_search(body: dict[str, Any], dialect: Dialect) -> tuple[dict[str, Any] | None, int, dict[str, Any]]:
    """The tool and its place, and the body without it and without what only it made necessary."""
    if dialect not in ("chat", "responses"):
        return None, 0, body
    forwarded = dict(body)
    tools = body.get("tools")
    places = [i for i, tool in enumerate(tools) if _is_file_search(tool)] if isinstance(tools, list) else []
    if len(places) > 1:
        param = f"tools[{places[1]}]"
        raise ApiError(400, f"{param}: one file_search is enough; list all stores in the first", param=param)
    choice = _choice(body.get("tool_choice"))
    if places:
        forwarded["tools"] = [tool for tool in body["tools"] if not _is_file_search(tool)]
        if not forwarded["tools"]:
            del forwarded["tools"]
            choice = None
    if choice is None:
        forwarded.pop("tool_choice", None)
    else:
        forwarded["tool_choice"] = choice
    return (body["tools"][places[0]] if places else None), (places[0] if places else 0), forwarded


def _choice(choice: Any) -> Any:
    """The tool choice for the engine: a search is always made, so that choosing it says nothing about the others."""
    if _is_file_search(choice):
        return None
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        inner = choice.get("allowed_tools")
        listed = inner if isinstance(inner, dict) else choice
        tools = listed.get("tools")
        if not isinstance(tools, list):  # the engine says what is wrong with it
            return choice
        left = [tool for tool in tools if not _is_file_search(tool)]
        if not left:
            return None
        changed = {**listed, "tools": left}
        return {**choice, "allowed_tools": changed} if listed is inner else changed
    return choice


def _no_tools(body: Mapping[str, Any]) -> bool:
    return body.get("tool_choice") == "none"


def _is_file_search(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "file_search"


def _without_ours(body: dict[str, Any], dialect: Dialect) -> tuple[dict[str, Any], bool]:
    """The body without `retrieval`, without earlier searches among its items, and whether results are to be shown."""
    forwarded = {key: value for key, value in body.items() if key != "retrieval"}
    if dialect != "responses":
        return forwarded, False
    if isinstance(items := forwarded.get("input"), list):
        forwarded["input"] = [
            item for item in items if not (isinstance(item, dict) and item.get("type") == "file_search_call")
        ]
    include = forwarded.get("include")
    if not isinstance(include, list) or RESULTS not in include:
        return forwarded, False
    forwarded["include"] = [name for name in include if name != RESULTS]
    if not forwarded["include"]:
        del forwarded["include"]
    return forwarded, True


def _own(body: Mapping[str, Any], tool: Any, place: int) -> tuple[Mapping[str, Any] | None, str]:
    """What the request itself says, with its fields checked by name, and what stands before them in errors."""
    field = body.get("retrieval")
    if field is not None and tool is not None:
        message = f"retrieval and tools[{place}] both ask for a search; leave one of them out"
        raise ApiError(400, message, param="retrieval", code="invalid_value")
    if tool is not None:
        _known(tool, TOOL_FIELDS, f"tools[{place}].")
        return tool, f"tools[{place}]."
    if field is None:
        return None, ""
    if not isinstance(field, dict):
        raise ApiError(400, "retrieval: an object such as {'vector_store_ids': ['…']}, or null", param="retrieval")
    _known(field, RETRIEVAL_FIELDS, "retrieval.")
    return field, "retrieval."


def _known(given: Mapping[str, Any], known: frozenset[str], param: str) -> None:
    for name in given:
        if name not in known:
            field = f"{param}{name[:64]}"
            raise ApiError(400, f"{field}: unknown field; there are {sorted(known)}", param=field, code="invalid_value")


def _assistants(assistant: Assistant | None) -> tuple[tuple[str, ...], Mapping[str, Any]] | None:
    """An assistant's stores, and the options of its `file_search` tool."""
    if assistant is None or not assistant.vector_store_ids:
        return None
    tool = next((tool for tool in assistant.tools if _is_file_search(tool)), {})
    options = tool.get("file_search")
    return assistant.vector_store_ids, options if isinstance(options, Mapping) else {}


def _one_prompt(body: Mapping[str, Any], dialect: Dialect) -> None:
    if dialect == "completions" and not isinstance(body.get("prompt"), str):
        raise ApiError(
            400,
            "prompt: an answer from sources takes one text; send the prompts one by one, "
            'or switch the search off with "retrieval": null',
            param="prompt",
            code="invalid_value",
        )


def _stores(
    own: Mapping[str, Any] | None, theirs: tuple[tuple[str, ...], Mapping[str, Any]] | None, param: str
) -> tuple[str, ...]:
    given = None if own is None else own.get("vector_store_ids")
    if given is None and theirs is not None:
        return theirs[0]
    field = f"{param}vector_store_ids"
    right = isinstance(given, list) and all(isinstance(store, str) and store for store in given)
    if not right or not given:
        raise ApiError(
            400, f"{field}: a list of at least one id or name of a vector store", param=field, code="invalid_value"
        )
    if len(given) > MOST_STORES:
        raise ApiError(400, f"{field}: at most {MOST_STORES} stores", param=field, code="invalid_value")
    return tuple(dict.fromkeys(given))


def _options(
    own: Mapping[str, Any] | None,
    theirs: tuple[tuple[str, ...], Mapping[str, Any]] | None,
    param: str,
    plan: Plan,
    settings: Settings,
) -> SearchOptions:
    """Each read by itself, so that an error names the one who wrote it."""
    read = partial(read_search_options, results=settings.retrieval_results, has_reranker=bool(settings.reranker))
    given = {name: own[name] for name in OPTIONS if own is not None and own.get(name) is not None}
    wanted = read(given, param=param)
    if theirs is None:
        return wanted
    try:
        preset = read(theirs[1], param="file_search.")
    except RetrievalError as error:
        raise ApiError(400, f"assistant {plan.public_name!r} is set up wrongly: {error}", param="model") from error
    both = [one.filter for one in (preset, wanted) if one.filter is not None]
    return replace(
        read({**theirs[1], **given}, param=param),
        filter=Compound(type="and", filters=tuple(both)) if len(both) > 1 else next(iter(both), None),
    )


def _flag(given: Mapping[str, Any], name: str, param: str, *, default: bool) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ApiError(400, f"{param}{name}: true or false", param=f"{param}{name}", code="invalid_value")
    return value


def _markers(given: Mapping[str, Any], param: str, *, default: Markers) -> Markers:
    value = given.get("markers")
    if value is None:
        return default
    if value not in ("keep", "strip"):
        raise ApiError(400, f"{param}markers: 'keep' or 'strip'", param=f"{param}markers", code="invalid_value")
    return cast("Markers", value)
