"""A batch with soft prompts in it, as vLLM 0.32's first model runner should take it (`vllm_soft_prompt_worker.py`).

- It embeds those tokens of a batch alone that are no vectors, and the LoRA layer of the embeddings then takes its
  indices from other rows of the batch: wrong answers, or sizes that do not agree and a dead engine. Here the whole
  batch is embedded.
- It embeds outside of the model in every batch, also where no soft prompt is about to be read. Where nothing is
  compiled for that, such batches go in as tokens, which costs what it costs without soft prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Embed = Callable[..., torch.Tensor]  # ids (tokens,) to vectors (tokens, hidden)


def mended(runner: Any, *, is_eager: bool) -> Callable[..., Any]:
    """The runner's step from a scheduled batch to the model's inputs; is_eager: nothing is compiled for vectors."""
    preprocess: Callable[..., Any] = runner._preprocess

    def from_batch(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        is_token = runner.is_token_ids.np[: scheduler_output.total_num_scheduled_tokens]
        if not is_token.all():
            runner.model.embed_input_ids = whole_batch(runner.model.embed_input_ids, is_token)
            try:
                return preprocess(scheduler_output, *args, **kwargs)
            finally:
                del runner.model.embed_input_ids  # the model's own method is there again
        if not is_eager:
            return preprocess(scheduler_output, *args, **kwargs)
        runner.enable_prompt_embeds = False
        try:
            return preprocess(scheduler_output, *args, **kwargs)
        finally:
            runner.enable_prompt_embeds = True

    return from_batch


def whole_batch(embed: Embed, is_token: NDArray[np.bool_]) -> Embed:
    """`embed` for the ids of a batch's tokens alone, computed in the batch's own rows; `is_token` has one per row."""
    places = torch.from_numpy(np.nonzero(is_token)[0])

    def embedded(input_ids: torch.Tensor) -> torch.Tensor:
        here = places.to(input_ids.device)
        ids = torch.zeros(len(is_token), dtype=input_ids.dtype, device=input_ids.device)
        ids[here] = input_ids
        return embed(ids)[here]

    return embedded
