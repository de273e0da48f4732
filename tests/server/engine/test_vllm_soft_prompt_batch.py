"""What a batch with vectors in it becomes, on a runner that is only as much of vLLM's as is asked of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from server.engine.vllm_soft_prompt_batch import mended, whole_batch


class Model(torch.nn.Module):
    """Embeds an id as itself and its row in the batch, as a LoRA layer's indices depend on the row."""

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return torch.stack([input_ids, torch.arange(len(input_ids))], dim=1)


class Runner:
    def __init__(self, is_token: list[bool], *, fails: bool = False) -> None:
        self.is_token_ids = SimpleNamespace(np=np.array([*is_token, False, False]))  # the buffer is longer
        self.model = Model()
        self.enable_prompt_embeds = True
        self.fails = fails

    def _preprocess(self, scheduler_output: Any, ids: torch.Tensor) -> torch.Tensor | str:
        if self.fails:
            raise RuntimeError("the model")
        if not self.enable_prompt_embeds:
            return "as tokens"
        is_token = torch.from_numpy(self.is_token_ids.np[: scheduler_output.total_num_scheduled_tokens])
        return self.model.embed_input_ids(input_ids=ids[is_token])


IDS = torch.tensor([0, 0, 7, 8, 0, 9])
IS_TOKEN = [False, False, True, True, False, True]


def _given(runner: Runner, *, is_eager: bool = True) -> Any:
    scheduled = SimpleNamespace(total_num_scheduled_tokens=len(IDS))
    return mended(runner, is_eager=is_eager)(scheduled, IDS)


@pytest.mark.parametrize("is_eager", [True, False])
def test_tokens_beside_vectors_are_embedded_in_their_own_rows(is_eager: bool) -> None:
    runner = Runner(IS_TOKEN)
    assert _given(runner, is_eager=is_eager).tolist() == [[7, 2], [8, 3], [9, 5]]
    assert runner.model.embed_input_ids(IDS[2:4]).tolist() == [[7, 0], [8, 1]]  # the model's own again


def test_a_batch_without_vectors_goes_in_as_tokens_where_nothing_is_compiled() -> None:
    runner = Runner([True] * len(IDS))
    assert _given(runner) == "as tokens"
    assert runner.enable_prompt_embeds
    assert _given(runner, is_eager=False).tolist() == [[int(token), row] for row, token in enumerate(IDS)]


@pytest.mark.parametrize("is_token", [IS_TOKEN, [True] * len(IDS)])
def test_after_a_failure_the_runner_is_as_it_was(is_token: list[bool]) -> None:
    runner = Runner(is_token, fails=True)
    with pytest.raises(RuntimeError, match="the model"):
        _given(runner)
    assert runner.enable_prompt_embeds
    assert "embed_input_ids" not in vars(runner.model)


def test_a_batch_of_vectors_alone_embeds_nothing() -> None:
    embedded = whole_batch(Model().embed_input_ids, np.array([False, False]))
    assert embedded(torch.tensor([], dtype=torch.int64)).shape == (0, 2)
