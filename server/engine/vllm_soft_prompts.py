"""Soft prompts on their way into vLLM: vectors before the rendered template, at the end of vLLM's own renderer.

All dialects render with the same two methods, within their request's task; so a context variable says there which
soft prompt the request has. What comes out is vLLM's mixed prompt: ids, vectors of the same length, and which of the
two counts at each place. Everything after it (sampling, logprobs, tools, usage, the prefix cache, which is keyed by
the vectors' bytes too) is vLLM's, and counts virtual tokens as the tokens of the prompt that they are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from vllm.inputs.engine import embeds_input
from vllm.v1.engine.async_llm import AsyncLLM

from adapters import soft_prompt
from server.engine.base import EngineAdapter, EngineRefused

Render = Callable[..., Coroutine[Any, Any, Any]]

_vectors: ContextVar[torch.Tensor | None] = ContextVar("soft_prompt", default=None)


class SoftPrompts:
    """Those that are loaded, and the renderer that puts them in."""

    def __init__(self, client: AsyncLLM) -> None:
        """Raises ValueError for a base whose prompts do not pass this renderer."""
        if client.model_config.hf_config.model_type == "gpt_oss":
            raise ValueError("MANYHATS_PROMPT_TUNING: gpt-oss has a renderer of its own that takes no soft prompts")
        self._loaded: dict[str, torch.Tensor] = {}  # by engine name, (virtual tokens, hidden) in the model's dtype
        self._dtype = client.model_config.dtype
        self._placeholder = _placeholder(client.renderer.get_tokenizer())
        client.renderer.render_chat_async = self._in_chat(client.renderer.render_chat_async)
        client.renderer.render_cmpl_async = self._in_completions(client.renderer.render_cmpl_async)

    def load(self, adapter: EngineAdapter) -> None:
        """Read its file; raises AdapterRefused or OSError."""
        self._loaded[adapter.engine_name] = torch.from_numpy(soft_prompt.read(adapter.path)).to(self._dtype)

    def unload(self, adapter: EngineAdapter) -> None:
        """Forget it; requests that are rendered already are not touched."""
        self._loaded.pop(adapter.engine_name, None)

    @contextmanager
    def before(self, adapter: EngineAdapter | None, body: Mapping[str, Any]) -> Iterator[None]:
        """What is rendered in here stands behind this adapter's vectors, where it is a soft prompt.

        Raises EngineRefused for one that is not loaded, and for what vLLM does with token ids only.
        """
        if adapter is None or adapter.kind != "soft_prompt":
            yield
            return
        if body.get("use_beam_search"):
            raise EngineRefused("use_beam_search: not with a soft prompt; sample with n", param="use_beam_search")
        vectors = self._loaded.get(adapter.engine_name)
        if vectors is None:
            raise EngineRefused(f"{adapter.engine_name!r} is not loaded", status=404)
        token = _vectors.set(vectors)
        try:
            yield
        finally:
            _vectors.reset(token)

    def _in_chat(self, render: Render) -> Render:
        async def render_chat_async(
            conversations: Any, chat_params: Any, tok_params: Any = None, **kwargs: Any
        ) -> tuple[Any, list[Any]]:
            vectors = _vectors.get()
            if vectors is not None:
                assert tok_params is not None, "vLLM's serving layer always gives them"
                tok_params = _shortened(tok_params, len(vectors))
            shown, prompts = await render(conversations, chat_params, tok_params, **kwargs)
            return shown, self._behind(vectors, prompts)

        return render_chat_async

    def _in_completions(self, render: Render) -> Render:
        async def render_cmpl_async(prompts: Any, tok_params: Any = None, **kwargs: Any) -> list[Any]:
            vectors = _vectors.get()
            if vectors is not None:
                assert tok_params is not None, "vLLM's serving layer always gives them"
                tok_params = _shortened(tok_params, len(vectors))
            return self._behind(vectors, await render(prompts, tok_params, **kwargs))

        return render_cmpl_async

    def _behind(self, vectors: torch.Tensor | None, prompts: list[Any]) -> list[Any]:
        return prompts if vectors is None else [self._mixed(vectors, prompt) for prompt in prompts]

    def _mixed(self, vectors: torch.Tensor, prompt: Any) -> Any:
        """vLLM's prompt with the vectors first; each row of a token is zeros, since its id counts there."""
        if prompt["type"] != "token":
            raise EngineRefused("a soft prompt stands before text; send text or token ids")
        tokens = prompt["prompt_token_ids"]
        rows = torch.zeros(len(vectors) + len(tokens), vectors.shape[1], dtype=vectors.dtype)
        rows[: len(vectors)] = vectors
        mixed = embeds_input(
            prompt_embeds=rows,
            prompt=prompt.get("prompt"),
            prompt_token_ids=[self._placeholder] * len(vectors) + list(tokens),
            is_token_ids=[False] * len(vectors) + [True] * len(tokens),
        )
        mixed["arrival_time"] = prompt["arrival_time"]
        return mixed


def _shortened(tok_params: Any, n_virtual_tokens: int) -> Any:
    """The renderer's limits, so that text and virtual tokens together fit into the context.

    The answer's is cut as well: vLLM refuses one that is longer than the whole, and has checked what was asked for.
    """
    if tok_params.max_total_tokens is None:
        return tok_params
    total = max(1, tok_params.max_total_tokens - n_virtual_tokens)
    return replace(tok_params, max_total_tokens=total, max_output_tokens=min(tok_params.max_output_tokens, total))


def _placeholder(tokenizer: Any) -> int:
    """The id that stands for virtual tokens where ids are counted, as by repetition penalties: one never generated."""
    for name in ("bos_token_id", "pad_token_id"):
        if isinstance(token := getattr(tokenizer, name, None), int):
            return token
    return 0
