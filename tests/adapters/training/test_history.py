from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training.history import STEPS_FILE, History, Spent, Step


def step(number: int) -> Step:
    return Step(
        number=number,
        n_steps=9,
        epoch=number / 3,
        train_loss=1 / number,
        train_mean_token_accuracy=0.5,
        valid_loss=None,
        valid_mean_token_accuracy=None,
        learning_rate=1e-3,
        n_tokens=100 * number,
        is_kept=False,
    )


def written(work: Path, n_steps: int) -> History:
    history = History(work, until=0)
    for number in range(1, n_steps + 1):
        history.add(step(number), Spent(float(number), 1000 * number))
    return history


def test_steps_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    written(tmp_path, 5)
    history = History(tmp_path, until=3)
    assert history.steps == [step(1), step(2), step(3)]
    assert (history.n_tokens, history.spent) == (300, Spent(3.0, 3000))
    history.add(step(4), Spent(9.0, 9000))
    assert History(tmp_path, until=4).spent == Spent(9.0, 9000)


def test_a_line_cut_in_two_is_no_step(tmp_path: Path) -> None:
    written(tmp_path, 3)
    path = tmp_path / STEPS_FILE
    path.write_bytes(path.read_bytes()[:-20])
    assert History(tmp_path, until=2).steps == [step(1), step(2)]


def test_a_checkpoint_whose_steps_are_lost_is_refused(tmp_path: Path) -> None:
    written(tmp_path, 3)
    with pytest.raises(ValueError, match="has 3 steps, the checkpoint 4"):
        History(tmp_path, until=4)
    assert History(tmp_path, until=3).n_tokens == 300  # the refusal changed nothing


def test_a_new_run_forgets_an_old_one(tmp_path: Path) -> None:
    written(tmp_path, 3)
    assert History(tmp_path, until=0).steps == []


def test_the_last_step_is_marked_as_kept(tmp_path: Path) -> None:
    history = written(tmp_path, 2)
    assert history.keep_last().is_kept
    assert [one.is_kept for one in history.steps] == [False, True]
