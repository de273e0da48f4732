"""How a job trains: OpenAI's `method` object with what we add to it.

https://platform.openai.com/docs/api-reference/fine-tuning/create
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["supervised", "dpo", "continued_pretraining", "prompt_tuning"]
KINDS: tuple[str, ...] = get_args(Kind)
Auto: TypeAlias = Literal["auto"]
Publish = Literal["always", "if_better", "never"]


class Lora(BaseModel):
    """The shape of the adapter. LoRA: arXiv 2106.09685; its scale by the root of the rank: arXiv 2312.03732."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    r: int = Field(16, ge=1, le=512)
    alpha: float | None = Field(None, gt=0, le=1e6)  # twice the rank if unset
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    use_rslora: bool = False


class Hyperparameters(BaseModel):
    """`auto` is settled by `adapters.training.plan` when the data is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=1024)] = "auto"  # examples of one optimizer step
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"  # of the method's usual rate
    beta: Auto | Annotated[float, Field(gt=0, le=10)] = "auto"  # DPO's, arXiv 2305.18290
    lora: Lora = Lora()
    quantization: Literal["nf4"] | None = None  # of the base while training: QLoRA, arXiv 2305.14314
    n_virtual_tokens: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"  # prompt tuning's, arXiv 2104.08691


class Settings(BaseModel):
    """What stands under the method's own name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    hyperparameters: Hyperparameters = Hyperparameters()


class Method(BaseModel):
    """`{"type": "dpo", "dpo": {"hyperparameters": {…}}}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Kind = "supervised"
    supervised: Settings | None = None
    dpo: Settings | None = None
    continued_pretraining: Settings | None = None
    prompt_tuning: Settings | None = None

    @model_validator(mode="after")
    def _only_its_own(self) -> Method:
        for kind in KINDS:
            if kind != self.type and getattr(self, kind) is not None:
                raise ValueError(f"`{kind}` is given, but `type` is {self.type!r}")
        given = self.hyperparameters.model_fields_set
        if self.type != "dpo" and "beta" in given:
            raise ValueError("`beta` belongs to the method dpo")
        if self.type != "prompt_tuning" and "n_virtual_tokens" in given:
            raise ValueError("`n_virtual_tokens` belongs to the method prompt_tuning")
        if self.type == "prompt_tuning" and given & {"lora", "quantization"}:
            raise ValueError("a soft prompt has no `lora`, and takes no `quantization`")
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The method's own, or the defaults."""
        settings: Settings | None = getattr(self, self.type)
        return settings.hyperparameters if settings is not None else Hyperparameters()

    def as_object(self) -> dict[str, Any]:
        """As it stands in a job object."""
        told = self.hyperparameters.model_dump(mode="json")
        if self.type != "dpo":
            told.pop("beta")
        if self.type == "prompt_tuning":
            del told["lora"], told["quantization"]
        else:
            told.pop("n_virtual_tokens")
        return {"type": self.type, self.type: {"hyperparameters": told}}
