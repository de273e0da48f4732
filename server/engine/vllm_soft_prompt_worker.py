"""vLLM's worker for soft prompts (MANYHATS_PROMPT_TUNING): it takes vectors in place of some of a prompt's tokens.

Only the worker is told to (`enable_prompt_embeds`). vLLM's own flag would tell its renderer as well, which then takes
embeddings from clients and gives its tokenizer a token that the base has no row for: as text in a bare prompt it would
end the engine.
"""

from __future__ import annotations

from vllm.config import CompilationMode
from vllm.platforms import current_platform

from server.engine.vllm_soft_prompt_batch import mended

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    from vllm.v1.worker.gpu_worker import Worker


class SoftPromptWorker(Worker):  # type: ignore[misc]  # vLLM is not typed
    """The platform's worker, with prompt embeddings switched on."""

    def init_device(self) -> None:
        """Make the model runner, which asks the configuration once."""
        self.vllm_config.model_config.enable_prompt_embeds = True
        super().init_device()
        if not self.use_v2_model_runner:  # the second embeds whole batches by itself
            is_eager = self.vllm_config.compilation_config.mode == CompilationMode.NONE
            self.model_runner._preprocess = mended(self.model_runner, is_eager=is_eager)
