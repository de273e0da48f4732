from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapters.base_model import BaseModel
from adapters.preflight import check
from adapters.training.errors import JobInvalid
from adapters.training.evaluation import evaluate_both
from adapters.training.history import Asked, Interrupted, Step
from tests.adapters.training import runs
from tests.adapters.training.runs import BASE, chats, disturbed, order, run

ROOT = Path(__file__).parents[3]


def killed(work: Path, at: int) -> None:
    """A run in a process of its own that ends by SIGKILL after that step."""
    ended = subprocess.run(
        [sys.executable, str(Path(runs.__file__)), str(work), str(at)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def weights(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def test_a_killed_run_ends_as_an_undisturbed_one(training: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", disturbed(tmp_path / "whole"))
    work = tmp_path / "killed"
    killed(work, at=2)  # before anything is kept: from the start
    assert not list((work / "checkpoints").glob("checkpoint-*"))
    killed(work, at=5)  # in the second epoch: from the end of the first
    assert [path.name for path in (work / "checkpoints").iterdir()] == ["checkpoint-3"]
    told: list[int] = []

    def tell(step: Step) -> Asked:
        told.append(step.number)
        return "go"

    resumed = run(work, disturbed(work), tell)
    assert told == [4, 5, 6]
    assert [step.number for step in resumed.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.train_loss for step in resumed.steps] == pytest.approx([step.train_loss for step in whole.steps])
    assert [step.n_tokens for step in resumed.steps] == [step.n_tokens for step in whole.steps]
    expected, got = weights(whole.folder), weights(resumed.folder)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=1e-6, err_msg=name)
    assert [(step, metrics) for step, _, metrics in resumed.epochs] == [
        (step, pytest.approx(metrics)) for step, _, metrics in whole.epochs
    ]
    assert resumed.facts["seconds"] > 0


def test_pausing_loses_no_step(training: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", order(training))
    work = tmp_path / "paused"
    with pytest.raises(Interrupted) as interrupted:
        run(work, order(training), lambda step: "pause" if step.number == 2 else "go")
    assert interrupted.value.asked == "pause"
    told: list[int] = []
    resumed = run(work, order(training), lambda step: told.append(step.number) or "go")
    assert told == [3, 4, 5, 6]
    for name, value in weights(whole.folder).items():
        np.testing.assert_allclose(weights(resumed.folder)[name], value, atol=1e-6)


def test_cancelling_stops_at_once_and_keeps_nothing(training: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="cancel"):
        run(tmp_path / "work", order(training), lambda step: "cancel")
    assert not list((tmp_path / "work" / "checkpoints").iterdir())


def test_a_checkpoint_that_cannot_be_read_is_not_taken(training: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    whole = run(work, order(training))
    (work / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors").write_bytes(b"half")
    told: list[int] = []
    again = run(work, order(training), lambda step: told.append(step.number) or "go")
    assert told == [4, 5, 6]
    for name, value in weights(whole.folder).items():
        np.testing.assert_allclose(weights(again.folder)[name], value, atol=1e-6)


def test_a_run_that_is_over_is_told_again_without_training(training: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "work", order(training))
    told: list[int] = []
    again = run(tmp_path / "work", order(training), lambda step: told.append(step.number) or "go")
    assert told == []
    assert again.steps[-1].number == 6
    assert [asdict(step) | {"is_kept": False} for step in again.steps] == [
        asdict(step) | {"is_kept": False} for step in whole.steps
    ]


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel.read(BASE)


def test_the_adapter_fits_the_base(training: Path, tmp_path: Path, base: BaseModel) -> None:
    trained = run(tmp_path / "work", order(training, lora={"r": 4, "alpha": 6, "use_rslora": True}))
    manifest = check(trained.folder, base, max_rank=64, max_bytes=1 << 30)
    assert (manifest.rank, manifest.alpha, manifest.use_rslora) == (4, 6, True)
    assert "lm_head" not in manifest.target_modules  # tied to the embedding: the engine would not serve it
    assert len(manifest.target_modules) == 7
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_what_is_told_of_each_step(training: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    trained = run(tmp_path / "work", order(training, validation=training), lambda step: steps.append(step) or "go")
    assert steps == trained.steps
    assert [(step.number, step.n_steps) for step in steps] == [(n, 6) for n in range(1, 7)]
    assert [step.epoch for step in steps] == pytest.approx([n / 3 for n in range(1, 7)], abs=1e-3)
    assert [step.number for step in steps if step.is_kept] == [3, 6]
    assert steps[-1].valid_loss is not None
    assert steps[-1].valid_loss < steps[0].train_loss
    assert 0 <= (steps[-1].valid_mean_token_accuracy or -1) <= 1
    assert trained.n_tokens == steps[-1].n_tokens == 2 * trained.steps[2].n_tokens
    assert [step for step, _, _ in trained.epochs] == [3, 6]
    assert trained.epochs[-1][2]["full_valid_loss"] == steps[-1].valid_loss
    assert trained.facts["peak_memory_bytes"] > 1e8


def test_loss_only_on_the_answers(tmp_path: Path) -> None:
    """The same answers after other questions train to the same first loss only if questions cost nothing themselves."""
    short = chats(tmp_path / "short.jsonl", [("Oi?", "Salvador")] * 2)
    told = run(tmp_path / "work", order(short, n_epochs=1)).steps[0]
    example = json.loads(short.read_text().splitlines()[0])
    both = evaluate_both(BASE, tmp_path / "work" / "adapter", short, "supervised", context_tokens=512)
    assert example["messages"][1]["content"] == "Salvador"
    assert told.train_loss == pytest.approx(both["base"]["loss"], rel=1e-3)  # the first step sees the bare base


def test_unknown_target_modules_are_named(training: Path, tmp_path: Path) -> None:
    with pytest.raises(JobInvalid, match=r"no linear layer 'qkv_proj'.*q_proj") as invalid:
        run(tmp_path / "work", order(training, lora={"target_modules": ["q_proj", "qkv_proj"]}))
    assert invalid.value.param == "lora.target_modules"


def test_going_on_from_an_adapter(training: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "first", order(training, n_epochs=8, lora={"r": 4, "target_modules": ["q_proj", "v_proj"]}))
    second = run(tmp_path / "second", order(training, n_epochs=1, parent=first.folder))
    assert second.plan.lora is not None
    assert (second.plan.lora.r, second.plan.lora.target_modules) == (4, ("q_proj", "v_proj"))
    assert second.steps[0].train_loss < 0.7 * first.steps[0].train_loss


@pytest.mark.parametrize("parent", [False, True])
def test_preferences(tmp_path: Path, training: Path, parent: bool) -> None:
    """The chosen answers become likelier than the rejected, starting from no preference over the reference."""
    pairs = tmp_path / "pairs.jsonl"
    line = {
        "input": {"messages": [{"role": "user", "content": "Qual o horário?"}]},
        "preferred_output": [{"role": "assistant", "content": "Das 8 às 18 horas."}],
        "non_preferred_output": [{"role": "assistant", "content": "Não sei."}],
    }
    pairs.write_text((json.dumps(line) + "\n") * 4)
    from_adapter = run(tmp_path / "first", order(training)).folder if parent else None
    asked = order(pairs, kind="dpo", n_epochs=4, learning_rate_multiplier=10, parent=from_adapter)
    trained = run(tmp_path / "work", asked)
    assert trained.steps[0].train_loss == pytest.approx(np.log(2), abs=1e-3)  # the policy is the reference
    assert trained.steps[-1].train_loss < 0.5
    assert (trained.plan.beta, trained.plan.hyperparameters()["beta"]) == (0.1, 0.1)
    assert not [path for path in trained.folder.iterdir() if path.is_dir()]


def test_plain_text_fills_rows(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    sentence = "A clínica fica na rua das Flores e abre às oito horas. "
    texts.write_text("".join(json.dumps({"text": sentence * n}) + "\n" for n in (1, 2, 3, 4, 60)))
    trained = run(tmp_path / "work", order(texts, kind="continued_pretraining", context_tokens=256, batch_size=1))
    assert trained.facts["packed"]
    n_tokens = trained.n_tokens // trained.plan.n_epochs
    assert trained.facts["n_rows"] == -(-n_tokens // 256)
    assert trained.steps[-1].train_loss < trained.steps[0].train_loss


def test_a_soft_prompt(training: Path, tmp_path: Path) -> None:
    trained = run(tmp_path / "work", order(training, kind="prompt_tuning", n_epochs=20, n_virtual_tokens=8))
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["num_virtual_tokens"]) == ("PROMPT_TUNING", 8)
    assert weights(trained.folder)["prompt_embeddings"].shape == (8, 256)
    both = evaluate_both(BASE, trained.folder, training, "prompt_tuning", context_tokens=512)
    assert both["adapter"]["loss"] < 0.8 * both["base"]["loss"]


def test_nf4_trains_on_a_cpu(training: Path, tmp_path: Path, base: BaseModel) -> None:
    trained = run(tmp_path / "work", order(training, quantization="nf4", n_epochs=4))
    assert trained.steps[-1].train_loss < trained.steps[0].train_loss
    assert {str(value.dtype) for value in weights(trained.folder).values()} == {"float32"}
    check(trained.folder, base, max_rank=64, max_bytes=1 << 30)


def test_nothing_is_printed_and_nothing_written_elsewhere(
    training: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run(tmp_path / "work", order(training))
    assert capfd.readouterr() == ("", "")
    assert list(here.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"training.jsonl", "here", "work"}
