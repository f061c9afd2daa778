"""Places: which are looked at, what that costs in memory, and that a defect anywhere is met by a sample of its size."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import Budget, Convolution, Weights, Window, convolve
from bninspect.arithmetic.kernels.places import BLOCK, choose
from bninspect.errors import BninspectError


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 50),
    st.integers(1, 8),
    st.integers(0, 10**6),
    st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_places_are_distinct_sorted_inside_and_within_the_budget(
    shape: list[int], terms: int, channels: int, products: int, seed: int
) -> None:
    places = choose(tuple(shape), terms=terms, channels=channels, budget=Budget(products, seed=seed))
    total = int(np.prod(shape))
    rows = places.rows
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0
    assert rows[-1] == total - 1  # a corner
    corners = 2 ** sum(n > 1 for n in shape)
    assert rows.size <= max(corners, products // (terms * channels))
    assert places.share == rows.size / total
    if products >= total * terms * channels:
        assert rows.size == total


def test_a_sample_is_spread_over_the_whole_output() -> None:
    places = choose((1000, 1000), terms=1, channels=1, budget=Budget(10_000))
    gaps = np.diff(places.rows)
    assert gaps.max() < 300  # strips of 100
    assert abs(np.mean(places.rows % 1000) - 500) < 25


def test_another_shape_is_not_picked_from() -> None:
    places = choose((2, 3), terms=1, channels=4, budget=Budget())
    with pytest.raises(BninspectError):
        places.pick(np.zeros((2, 4, 4)))
    with pytest.raises(BninspectError):
        places.pick(np.zeros((2, 3)))


def test_memory_is_bounded_whatever_the_size_of_the_operation() -> None:
    """Results, blocks and weights: a gathered input would take 1.2 GB, the output 0.5 GB."""
    x = np.ones((1, 256, 256, 256), np.float32)
    weights = Weights.of(np.ones((9, 256, 128), np.float32))
    operation = Convolution(Window.of((3, 3), padding=((1, 1), (1, 1))))
    budget = Budget(products=1 << 30, elements=1 << 20)
    tracemalloc.start()
    exact = convolve(operation, x, weights, budget=budget)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.04 < exact.places.share < 0.06
    assert peak < 5 * 8 * BLOCK + 32 * (1 << 20) + 8 * 8 * weights.values.size
    assert set(np.unique(exact.value)) == {4 * 256.0, 6 * 256.0, 9 * 256.0}


def test_where_numbers_are_not_finite_nothing_is_promised() -> None:
    from bninspect.arithmetic.kernels import expect_sum

    x = np.ones((1, 9, 2))
    x[0, 4, 1] = np.nan
    x[0, 8, 0] = np.inf
    exact = convolve(Convolution(Window.of((2,))), x, Weights.of(np.ones((2, 2, 3))))
    expected = expect_sum(exact)
    ratios = expected.ratios(np.where(np.isfinite(exact.value), exact.value, 0))
    assert np.flatnonzero(np.isinf(ratios).any(axis=1)).tolist() == [3, 4, 7]
    assert (ratios[[0, 1, 2, 5, 6]] <= 1.0).all()
    assert np.isinf(expected.worst(exact.value))
    assert exact.reach == 1.0
