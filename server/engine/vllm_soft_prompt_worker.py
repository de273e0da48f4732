"""vLLM's worker for soft prompts (MANYHATS_PROMPT_TUNING): it takes vectors in place of some of a prompt's tokens.

Only the worker is told to (`enable_prompt_embeds`). vLLM's own flag would tell its renderer as well, which then takes
embeddings from clients and gives its tokenizer a token that the base has no row for: as text in a bare prompt it would
end the engine.

With vLLM 0.32's first model runner, which the CPU has, two things are mended:

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
from vllm.config import CompilationMode
from vllm.platforms import current_platform

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    from vllm.v1.worker.gpu_worker import Worker

Preprocess = Callable[..., Any]


class SoftPromptWorker(Worker):  # type: ignore[misc]  # vLLM is not typed
    """The platform's worker, with prompt embeddings switched on."""

    def init_device(self) -> None:
        """Make the model runner, which asks the configuration once."""
        self.vllm_config.model_config.enable_prompt_embeds = True
        super().init_device()
        if not self.use_v2_model_runner:  # the second embeds whole batches by itself
            self.model_runner._preprocess = mended(self.model_runner)


def mended(runner: Any) -> Preprocess:
    """The runner's step from a scheduled batch to the model's inputs, as told above."""
    preprocess: Preprocess = runner._preprocess
    is_eager = runner.vllm_config.compilation_config.mode == CompilationMode.NONE

    def from_batch(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        is_token = runner.is_token_ids.np[: scheduler_output.total_num_scheduled_tokens]
        if is_token.all():
            if not is_eager:
                return preprocess(scheduler_output, *args, **kwargs)
            runner.enable_prompt_embeds = False
            try:
                return preprocess(scheduler_output, *args, **kwargs)
            finally:
                runner.enable_prompt_embeds = True
        runner.model.embed_input_ids = whole_batch(runner.model.embed_input_ids, is_token)
        try:
            return preprocess(scheduler_output, *args, **kwargs)
        finally:
            del runner.model.embed_input_ids

    return from_batch


def whole_batch(embed: Callable[..., torch.Tensor], is_token: np.ndarray[Any, Any]) -> Callable[..., torch.Tensor]:
    """`embed` for the ids of a batch's tokens alone, computed in the batch's own rows; `is_token` has one per row."""
    places = torch.from_numpy(np.nonzero(is_token)[0])

    def embedded(input_ids: torch.Tensor) -> torch.Tensor:
        here = places.to(input_ids.device)
        ids = torch.zeros(len(is_token), dtype=input_ids.dtype, device=input_ids.device)
        ids[here] = input_ids
        return embed(ids)[here]

    return embedded
