"""Ranks and errors of a decomposition; of a large matrix only its leading part is looked for."""

from __future__ import annotations

import numpy as np
import pytest

from adapters import factoring
from adapters.errors import AdapterRefused
from adapters.factoring import Spectrum, Target

WIDTH = 1024


@pytest.fixture(scope="module")
def large() -> tuple[np.ndarray, np.ndarray]:
    """A matrix whose singular values fall slowly, and those values."""
    dice = np.random.default_rng(0)
    left, right = (np.linalg.qr(dice.standard_normal((WIDTH, WIDTH)))[0] for _ in range(2))
    values = 1.0 / np.arange(1.0, WIDTH + 1) ** 0.7
    return (left * values) @ right, values


def test_the_least_rank_for_an_error():
    spectrum = Spectrum(values=np.array([4.0, 2.0, 1.0, 0.0]))
    assert spectrum.least_rank(0.0) == 3
    assert spectrum.least_rank(1 / np.sqrt(21) + 1e-9) == 2
    assert spectrum.least_rank(0.99) == 1


def test_what_is_not_known_of_a_spectrum_counts_as_lost():
    whole, part = Spectrum(values=np.array([4.0, 2.0, 2.0, 1.0])), Spectrum(values=np.array([4.0, 2.0]), rest=5**0.5)
    assert part.tail(2) == pytest.approx(whole.tail(2))
    assert part.least_rank(whole.tail(2) + 1e-9) == 2
    assert part.least_rank(0.1) == part.known + 1


def test_a_large_matrix_loses_hardly_more_than_the_best_and_says_exactly_how_much(large):
    difference, values = large
    b, a, error = factoring.factors("q_proj", difference, Target(rank=32))
    assert (b.shape, a.shape) == ((WIDTH, 32), (32, WIDTH))
    assert error == pytest.approx(np.linalg.norm(difference - b @ a) / np.linalg.norm(difference), rel=1e-9)
    assert Spectrum(values=values).tail(32) <= error < 1.001 * Spectrum(values=values).tail(32)


def test_a_large_matrix_of_low_rank_is_reproduced():
    dice = np.random.default_rng(1)
    difference = dice.standard_normal((WIDTH, 12)) @ dice.standard_normal((12, WIDTH))
    b, a, error = factoring.factors("q_proj", difference, Target(limit=64))
    assert b.shape == (WIDTH, 12)
    assert error < factoring.EXACT
    np.testing.assert_allclose(b @ a, difference, atol=1e-9)


def test_a_large_matrix_is_decomposed_the_same_each_time(large):
    first, second = (factoring.factors("q_proj", large[0], Target(rank=8)) for _ in range(2))
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first[0], second[0])


def test_an_error_that_the_known_part_cannot_meet_is_refused(large):
    with pytest.raises(AdapterRefused, match="takes a rank above 16 in 'q_proj'"):
        factoring.factors("q_proj", large[0], Target(error=1e-3, limit=16))
