"""What an assistant is, and what may be written about one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from server.storage.entries_file import first_problem
from server.storage.errors import AssistantInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """A name for a model, instructions, examples, stores and default sampling: OpenAI's object and a little more."""

    id: str
    name: str
    model: str  # the base or an adapter, with or without a version
    created_at: float  # Unix seconds
    description: str | None = None
    instructions: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_resources: Mapping[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    metadata: Mapping[str, str] | None = None
    response_format: str | Mapping[str, Any] | None = None
    examples: tuple[Mapping[str, str], ...] = ()  # few-shot turns: {"user": …, "assistant": …}
    managed: Literal["api", "file"] = "api"

    @property
    def vector_store_ids(self) -> tuple[str, ...]:
        """Ids or names of the stores that it answers from."""
        file_search = (self.tool_resources or {}).get("file_search") or {}
        return tuple(file_search.get("vector_store_ids") or ())

    def as_object(self) -> dict[str, Any]:
        """OpenAI's assistant object, with `examples` and `managed`."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        shown |= {"tools": list(self.tools), "examples": list(self.examples), "metadata": self.metadata or {}}
        return {**shown, "object": "assistant", "created_at": int(self.created_at)}


class Example(BaseModel):
    """One few-shot turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str
    assistant: str


class AssistantFields(BaseModel):
    """What clients and operators may write, within OpenAI's bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    name: str | None = None
    description: Annotated[str, StringConstraints(max_length=512)] | None = None
    instructions: Annotated[str, StringConstraints(max_length=256_000)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] = []
    tool_resources: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    response_format: Literal["auto"] | dict[str, Any] | None = None
    examples: Annotated[list[Example], Field(max_length=128)] = []

    @model_validator(mode="after")
    def _shapes(self) -> AssistantFields:
        for place, tool in enumerate(self.tools):
            if not isinstance(tool.get("type"), str):
                raise ValueError(f"tools.{place}.type: required, such as 'file_search' or 'function'")
        file_search = (self.tool_resources or {}).get("file_search")
        if file_search is not None:
            ids = file_search.get("vector_store_ids", []) if isinstance(file_search, dict) else None
            if not isinstance(ids, list) or not all(isinstance(store, str) for store in ids):
                raise ValueError("tool_resources.file_search.vector_store_ids: must be a list of ids or names")
        return self

    def stored(self) -> dict[str, Any]:
        """Everything but name and model, as JSON, without what is not set."""
        return self.model_dump(mode="json", exclude={"name", "model"}, exclude_defaults=True)


def check_fields(given: Mapping[str, Any]) -> AssistantFields:
    """The fields, checked. Raises AssistantInvalid, which names the first bad one; null means not set."""
    try:
        return AssistantFields.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        told = first_problem(error)
        raise AssistantInvalid(told, param=told.partition(":")[0]) from error


def check_resources(given: Mapping[str, Any]) -> None:
    """That `file_search` asks for nothing that would be ignored. Raises AssistantInvalid, which names the field.

    For what people write: rows of before this was checked are read as ever.
    """
    resources = given.get("tool_resources")
    search = resources.get("file_search") if isinstance(resources, Mapping) else None
    for key in search if isinstance(search, Mapping) else ():
        param = f"tool_resources.file_search.{str(key)[:64]}"
        if key == "vector_stores":
            raise AssistantInvalid(
                f"{param}: no store is made here; make the store first and name it in `vector_store_ids`", param=param
            )
        if key != "vector_store_ids":
            raise AssistantInvalid(f"{param}: unknown field; only `vector_store_ids` is taken here", param=param)


def assistant_of(
    fields: AssistantFields,
    *,
    id: str,  # noqa: A002  # OpenAI's word for it
    name: str,
    created_at: float,
    managed: Literal["api", "file"] = "api",
) -> Assistant:
    """The assistant that checked fields describe."""
    stored = fields.stored()
    stored |= {"tools": tuple(stored.get("tools", ())), "examples": tuple(stored.get("examples", ()))}
    return Assistant(id=id, name=name, model=fields.model, created_at=created_at, managed=managed, **stored)
