"""Where the samples of a batch are behind reshapes and transposes, against what NumPy does with their numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.formats.sample_axes import SampleAxes, behind_reshape, behind_transpose


@st.composite
def _shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    factors = [prime for length in before for prime in _primes(length)]
    after = [1] * draw(st.integers(1, 5))
    place = 0
    for factor in factors:  # in their order, so that axes are split and merged, not mixed
        place = draw(st.integers(place, len(after) - 1))
        after[place] *= factor
    return before, tuple(after)


def _primes(number: int) -> list[int]:
    return [2, 2] if number == 4 else [number]


@given(_shapes())
def test_samples_are_along_the_axes_in_which_their_numbers_differ(shapes: tuple[tuple[int, ...], ...]) -> None:
    before, after = shapes
    places = np.broadcast_to(np.arange(before[0]).reshape(-1, *[1] * (len(before) - 1)), before).reshape(after)
    differ = frozenset(axis for axis in range(len(after)) if (np.diff(places, axis=axis) != 0).any())
    found = behind_reshape(SampleAxes(), before, after)
    assert found.axes == differ if before[0] > 1 else found == SampleAxes(frozenset((0,)), before)
    assert math.prod(before) == math.prod(after)


@pytest.mark.parametrize(
    ("before", "after", "axes"),
    [
        ((None, 5, 6), (1, None, 6, 1), {1}),
        ((None, 5, 6), (None, 6), {0}),
        ((None, 3, 4, 4), (1, 6, 4, 4), {1}),
        ((None, 3, 4, 4), (None, 48), {0}),
        (None, (1, 6), {0}),
        ((2, 3), None, {0}),
    ],
)
def test_samples_of_an_open_batch(before: tuple[int, ...] | None, after: tuple[int, ...], axes: set[int]) -> None:
    assert behind_reshape(SampleAxes(), before, after).axes == axes


def test_samples_move_with_a_transpose() -> None:
    assert behind_transpose(SampleAxes(frozenset((1,))), (0, 2, 3, 1)).axes == {3}
    assert behind_transpose(SampleAxes(), (2, 0)).axes == {1}
