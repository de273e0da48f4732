"""The real engine: vLLM in this process's event loop, its core and workers in processes of their own.

Only `vllm_*.py` import vllm. It builds vLLM's serving layer and calls it directly, so that tools, structured
outputs, logprobs, reasoning and usage are vLLM's; ours are the name that an answer carries and the shape of errors.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, NoReturn

from prometheus_client import REGISTRY, Gauge, generate_latest
from pydantic import ValidationError
from starlette.datastructures import State
from vllm import __version__ as vllm_version
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)
from vllm.lora.request import LoRARequest
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.prometheus import get_prometheus_registry

from adapters.errors import AdapterRefused
from server.control_tokens import control_vocabulary, turn_markers
from server.engine.base import (
    Answer,
    Call,
    EngineAdapter,
    EngineFacts,
    EngineRefused,
    EngineUnavailable,
    LoadFailed,
    Tool,
    Usage,
)
from server.engine.vllm_flags import FlagRefused, vllm_flags
from server.engine.vllm_frames import (
    blamed_on_grammar,
    event_usage,
    known_ids,
    mended,
    refusal,
    refused_fields,
    validation_refusal,
    without_nulls,
)
from server.engine.vllm_soft_prompts import SoftPrompts
from server.settings import Settings

DEAD = "the engine has died and is being started anew; try again in a minute"

LOADS_PER_CLEARING = 64

_public_name: ContextVar[str] = ContextVar("public_name")


class VllmEngine:
    """vLLM's serving layer behind the engine port."""

    def __init__(
        self, client: AsyncLLM, state: State, facts: EngineFacts, *, soft_prompts: SoftPrompts | None = None
    ) -> None:
        """soft_prompts: None where the engine was started without them."""
        self.facts = facts
        self._client = client
        self._state = state
        self._models = state.openai_serving_models
        self._soft_prompts = soft_prompts
        self._loads = 0
        self._base_name = self._models.base_model_paths[0].name
        # every dialect asks for the name within its own request's task, so a context variable tells it
        self._models.model_name = lambda lora_request=None: _public_name.get()

    @classmethod
    async def start(cls, settings: Settings, *, device: str, extra: Sequence[str] = ()) -> VllmEngine:
        """Start the engine core and its workers; takes about half a minute, off the event loop."""
        args = make_arg_parser(_Parser()).parse_args(vllm_flags(settings, device=device, extra=extra))
        validate_parsed_serve_args(args)
        client = await asyncio.to_thread(_start_client, args)
        try:
            await client.reset_mm_cache()
            soft_prompts = SoftPrompts(client) if settings.prompt_tuning else None
            state = State()
            await init_app_state(client, state, args, await client.get_supported_tasks())
            controls = _control_tokens(client)
            facts = EngineFacts(
                context_tokens=client.model_config.max_model_len,
                vocabulary=client.model_config.get_vocab_size(),
                dtype=str(client.model_config.dtype).removeprefix("torch."),
                device=device,
                version=vllm_version,
                has_system_role=_takes_system_role(client),
                control_strings=(*controls, *_turn_markers(client)),
                control_ids=frozenset(controls.values()),
                details={"quantization": client.model_config.quantization},
            )
        except BaseException:
            client.shutdown()
            raise
        return cls(client, state, facts, soft_prompts=soft_prompts)

    async def answer(self, call: Call) -> Answer:
        if self._client.errored:
            raise EngineUnavailable(DEAD)
        refused_fields(call.body)
        is_lora = call.adapter is not None and call.adapter.kind == "lora"
        body = {**call.body, "model": call.adapter.engine_name if call.adapter and is_lora else self._base_name}
        raw = SimpleNamespace(headers={"X-Request-Id": call.request_id, **call.headers}, state=SimpleNamespace())
        token = _public_name.set(call.public_name)
        try:
            with self._soft_prompts.before(call.adapter, body) if self._soft_prompts else nullcontext():
                result = await self._create(call, body, raw)
        except EngineRefused:
            raise
        except ValidationError as error:
            raise validation_refusal(error) from error
        except EngineDeadError as error:
            raise EngineUnavailable(DEAD) from error
        except Exception as error:
            # vLLM's own table from exception to status: it raises plain ValueError and its own classes alike
            problem = refusal(create_error_response(error).model_dump()["error"])
            raise self._blamed(problem, body) from error
        finally:
            _public_name.reset(token)
        if isinstance(result, ErrorResponse):
            raise self._blamed(refusal(result.model_dump()["error"]), body)
        if not hasattr(result, "__aiter__"):
            whole = result.model_dump(
                mode="json",
                by_alias=call.dialect == "responses",
                exclude_none=call.dialect == "messages",
            )
            usage = event_usage(whole.get("usage"))
            return Answer(body=whole, frames=None, usage=lambda: usage)
        try:
            return await _streamed(call, result, raw)
        except (EngineDeadError, EngineRefused) as error:
            if self._client.errored:  # vLLM's frames for a dead engine say 500, as for anything else
                raise EngineUnavailable(DEAD) from error
            raise self._blamed(error, body) from error

    def _blamed(self, error: Exception, body: dict[str, Any]) -> Exception:
        if isinstance(error, EngineRefused) and not self._client.errored:
            return blamed_on_grammar(error, body)
        return error

    async def _create(self, call: Call, body: dict[str, Any], raw: Any) -> Any:
        body = without_nulls(body, call.dialect)
        if call.dialect == "chat":
            chat = ChatCompletionRequest.model_validate(body)
            return await self._state.openai_serving_chat.create_chat_completion(chat, raw)
        if call.dialect == "completions":
            completion = CompletionRequest.model_validate(body)
            return await self._state.openai_serving_completion.create_completion(completion, raw)
        if call.dialect == "messages":
            messages = AnthropicMessagesRequest.model_validate(body)
            return await self._state.anthropic_serving_messages.create_messages(messages, raw)
        responses = ResponsesRequest.model_validate({**body, "request_id": call.request_id, "store": False})
        return await self._state.openai_serving_responses.create_responses(responses, raw)

    async def load(self, adapter: EngineAdapter) -> None:
        if adapter.kind == "soft_prompt":
            await self._load_soft_prompt(adapter)
            return
        request = LoRARequest(
            lora_name=adapter.engine_name, lora_int_id=adapter.lora_id, lora_path=str(adapter.path.resolve())
        )
        try:
            if not await self._client.add_lora(request):
                raise LoadFailed(f"the engine did not take {adapter.engine_name!r}")
        except EngineDeadError as error:
            raise EngineUnavailable(DEAD) from error
        except LoadFailed:
            raise
        except Exception as error:
            raise LoadFailed(f"the engine did not take {adapter.engine_name!r}: {error}") from error
        self._models.lora_requests[adapter.engine_name] = request
        self._loads += 1
        if self._loads % LOADS_PER_CLEARING == 0:
            _clear_mixtures()

    async def _load_soft_prompt(self, adapter: EngineAdapter) -> None:
        if self._soft_prompts is None:
            raise LoadFailed(f"{adapter.engine_name!r} is a soft prompt; set MANYHATS_PROMPT_TUNING=true")
        try:
            await asyncio.to_thread(self._soft_prompts.load, adapter)
        except (OSError, AdapterRefused) as error:
            raise LoadFailed(f"{adapter.engine_name!r} cannot be read: {error}") from error

    async def unload(self, adapter: EngineAdapter) -> None:
        if adapter.kind == "soft_prompt":
            if self._soft_prompts is not None:
                self._soft_prompts.unload(adapter)
            return
        self._models.lora_requests.pop(adapter.engine_name, None)
        with _told_when_dead():
            await self._client.remove_lora(adapter.lora_id)

    async def count_tokens(self, tool: Tool, body: dict[str, Any]) -> dict[str, Any]:
        body = {**body, "model": self._base_name}  # an adapter has its base's tokenizer
        raw = SimpleNamespace(headers={}, state=SimpleNamespace())
        try:
            if tool == "count_tokens":
                counted = AnthropicCountTokensRequest.model_validate(body)
                result = await self._state.anthropic_serving_messages.count_tokens(counted, raw)
            elif tool == "detokenize":
                wanted = DetokenizeRequest.model_validate(body)
                known_ids(wanted.tokens, self.facts.vocabulary)
                result = await self._state.serving_tokenization.create_detokenize(wanted, raw)
            else:
                kind = TokenizeChatRequest if "messages" in body else TokenizeCompletionRequest
                result = await self._state.serving_tokenization.create_tokenize(kind.model_validate(body), raw)
        except ValidationError as error:
            raise validation_refusal(error) from error
        except EngineRefused:
            raise
        except Exception as error:
            raise refusal(create_error_response(error).model_dump()["error"]) from error
        if isinstance(result, ErrorResponse):
            raise refusal(result.model_dump()["error"])
        counted_body: dict[str, Any] = result.model_dump(mode="json", exclude_none=True)
        return counted_body

    def alive(self) -> bool:
        return not self._client.errored

    def metrics(self, names: Collection[str] | None = None) -> bytes:
        registry = get_prometheus_registry()
        return generate_latest(registry if names is None else registry.restricted_registry(names))

    async def close(self) -> None:
        await asyncio.to_thread(self._client.shutdown)


class _Parser(FlexibleArgumentParser):  # type: ignore[misc]  # vLLM is not typed
    """vLLM's parser, but a bad flag is an exception: exiting is for whoever started the process."""

    def error(self, message: str) -> NoReturn:
        raise FlagRefused(f"vLLM does not take these flags: {message}")


async def _streamed(call: Call, result: AsyncIterator[Any], raw: Any) -> Answer:
    """Wait for the first frame, so that an error before it still has its own status."""
    reported: list[Usage] = []
    frames = _event_frames(result, reported) if call.dialect == "responses" else _text_frames(result, call.dialect)
    try:
        first = await anext(frames, None)
    except BaseException:
        await frames.aclose()
        raise

    async def all_frames() -> AsyncGenerator[str, None]:
        async with aclosing(frames):
            if first is not None:
                yield first
            async for frame in frames:
                yield frame

    def usage() -> Usage:
        metadata = getattr(raw.state, "request_metadata", None)
        final = getattr(metadata, "final_usage_info", None)
        if final is not None:
            return Usage(prompt_tokens=final.prompt_tokens, completion_tokens=final.completion_tokens or 0)
        return reported[-1] if reported else Usage()

    return Answer(body=None, frames=all_frames(), usage=usage)


async def _text_frames(result: Any, dialect: str) -> AsyncGenerator[str, None]:
    first = True
    async with aclosing(result):
        async for frame in result:
            yield mended(frame, dialect, first=first)
            first = False


async def _event_frames(result: Any, reported: list[Usage]) -> AsyncGenerator[str, None]:
    async with aclosing(result):
        with _told_when_dead():
            async for event in result:
                kind = event.type
                if kind == "response.completed":
                    reported.append(event_usage(event.response.usage and event.response.usage.model_dump()))
                    if event.response.status == "incomplete":
                        kind = "response.incomplete"  # OpenAI names the last event after the response's status
                        data = json.loads(event.model_dump_json(by_alias=True)) | {"type": kind}
                        yield f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
                        continue
                yield f"event: {kind}\ndata: {event.model_dump_json(by_alias=True)}\n\n"


@contextmanager
def _told_when_dead() -> Iterator[None]:
    try:
        yield
    except EngineDeadError as error:
        raise EngineUnavailable(DEAD) from error


def _start_client(args: Any) -> AsyncLLM:
    engine_args = AsyncEngineArgs.from_cli_args(args)
    return AsyncLLM.from_vllm_config(
        vllm_config=engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER),
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=False,
        disable_log_stats=engine_args.disable_log_stats,
    )


def _clear_mixtures() -> None:
    """Drop vLLM's series for mixtures of adapters that ran together: it keeps one for each that there ever was."""
    collector = REGISTRY._names_to_collectors.get("vllm:lora_requests_info")
    if isinstance(collector, Gauge):
        collector.clear()


def _takes_system_role(client: AsyncLLM) -> bool:
    tokenizer = client.renderer.get_tokenizer()
    try:
        tokenizer.apply_chat_template(
            [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], tokenize=False
        )
    except Exception:  # noqa: BLE001  # templates raise whatever they like to say "no such role"
        return False
    return True


def _control_tokens(client: AsyncLLM) -> dict[str, int]:
    tokenizer = client.renderer.get_tokenizer()
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return control_vocabulary(tokenizer.get_added_vocab(), special)


def _turn_markers(client: AsyncLLM) -> tuple[str, ...]:
    """What the served template puts around turns, seen in a conversation of two."""
    said = ["first-question", "first-answer", "second-question"]
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), said, strict=True)]
    tokenizer = client.renderer.get_tokenizer()
    try:
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception:  # noqa: BLE001  # as above; a model without a template has no markers
        return ()
    return turn_markers(prompt, said) if isinstance(prompt, str) else ()
