"""The base with the adapter that is to be trained. Only the training child imports this: it loads torch and peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, set_seed
from transformers.pytorch_utils import Conv1D

from adapters.training.errors import JobInvalid
from adapters.training.plan import Plan

Quantization = Literal["nf4"] | None


def width(base: Path) -> int:
    """The base's hidden size."""
    return int(AutoConfig.from_pretrained(base).get_text_config().hidden_size)


def load(base: Path, *, device: str, quantization: Quantization = None) -> Any:
    """The frozen base, on `device`: bfloat16 on a GPU, float32 on CPUs, which are slower with anything narrower.

    nf4 (arXiv 2305.14314): the linear layers of the blocks hold 4 bits a weight, their constants quantised again;
    embeddings, norms and the output layer stay. It runs on CPUs too, forward and backward.
    """
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    options: dict[str, Any] = {"dtype": dtype}
    if quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        options["device_map"] = {"": device}
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, **options)
    model.requires_grad_(False)
    return model if quantization else model.to(device)


def adapt(model: Any, plan: Plan, *, parent: Path | None, seed: int) -> PeftModel:
    """The base with the adapter to train: a new one, whose start `seed` decides, or the parent's weights.

    Raises JobInvalid when the base has not the layers that are asked for.
    """
    set_seed(seed)
    if parent is not None:
        return PeftModel.from_pretrained(model, parent, is_trainable=True)
    return get_peft_model(model, peft_config(plan, model))


def peft_config(plan: Plan, model: Any) -> Any:
    """PEFT's configuration of a new adapter."""
    if plan.lora is None:
        return PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=plan.n_virtual_tokens,
            prompt_tuning_init="SAMPLE_VOCAB",  # starts where the base's own embeddings are (arXiv 2104.08691, 3.2)
        )
    lora = plan.lora
    targets = lora.target_modules
    if targets != "all-linear":
        check_targets(targets, model)
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=lora.alpha or 2.0 * lora.r,
        lora_dropout=lora.dropout,
        target_modules=targets if targets == "all-linear" else list(targets),
        use_rslora=lora.use_rslora,
    )


def check_targets(targets: tuple[str, ...], model: Any) -> None:
    """Raises JobInvalid for a name that is no linear layer inside the base's blocks."""
    head = model.get_output_embeddings()
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
    }
    known = sorted({name.rpartition(".")[2] for name in linear})
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            raise JobInvalid(
                f"the base has no linear layer {target!r} that can be trained; it has {', '.join(known)}, "
                "and 'all-linear' means all of them",
                param="lora.target_modules",
            )
