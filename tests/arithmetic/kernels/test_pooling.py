"""Pooling is exact: by loops over fractions, and by torch for what is counted."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from helpers import naive_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.arithmetic.kernels import Budget, Pooling, Window, mean, pool
from bninspect.errors import BninspectError


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_pooling_is_what_its_definition_says(data: Any, average: bool, counted: bool, first: bool) -> None:
    rank = data.draw(st.integers(1, 2))
    size = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    stride = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    padding = tuple((data.draw(st.integers(0, k - 1)), data.draw(st.integers(0, k - 1))) for k in size)
    lengths = tuple(data.draw(st.integers(k, k + 3)) for k in size)
    x = np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(-9, 10, (2, *lengths, 3))
    window = Window.of(size, stride=stride, padding=padding)
    operation = Pooling(window, average, counts_padding=counted, channel_axis=1 if first else -1)
    outputs = operation.outputs(lengths)
    options = {"size": size, "stride": stride, "padding": padding, "outputs": outputs}
    expected = naive_kernels.pool(x, **options, average=average, counts_padding=counted)
    exact = pool(operation, np.moveaxis(x, -1, operation.channel_axis))
    rows = exact.places.pick(np.moveaxis(expected, -1, operation.channel_axis))
    assert all(abs(Fraction(a) - b) < 1e-14 for a, b in zip(exact.value.ravel().tolist(), rows.ravel(), strict=True))
    assert average or exact.value.tolist() == rows.tolist()


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
def test_torch_divides_by_the_same_number(counted: bool, ceil: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    for n in range(4, 12):
        x = rng.standard_normal((2, 3, n, n + 1))
        y = torch.nn.functional.avg_pool2d(torch.from_numpy(x), 3, 2, 1, ceil, counted).numpy()
        window = Window.of((3, 3), stride=(2, 2), padding=((1, 1), (1, 1)))
        exact = pool(Pooling(window, average=True, ceil=ceil, counts_padding=counted, channel_axis=1), x)
        assert np.abs(exact.places.pick(y) - exact.value).max() < 1e-15


@pytest.mark.parametrize("axes", [(0,), (1, 2), (2, 1), (0, 1, 2, 3), (3,)])
def test_a_mean_has_a_row_per_place_that_remains(axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(4).integers(-128, 128, (2, 3, 4, 5)).astype(np.int8)
    x[0, 0, 0, 0] = -128
    exact = mean(x, axes)
    assert exact.terms == np.prod([x.shape[a] for a in axes])
    wide = x.astype(float)
    np.testing.assert_allclose(exact.places.pick(wide.mean(axis=axes)[..., np.newaxis]), exact.value, atol=1e-12)
    np.testing.assert_allclose(exact.magnitude.ravel(), np.abs(wide).mean(axis=axes).ravel(), atol=1e-12)
    assert exact.reach == 128


def test_places_are_sampled_above_the_budget() -> None:
    x = np.random.default_rng(4).standard_normal((1, 50, 50, 2))
    operation = Pooling(Window.of((2, 2)), average=True)
    whole, part = pool(operation, x), pool(operation, x, budget=Budget(products=8 * 100))
    assert part.places.share < 0.05
    assert (part.value == whole.value[part.places.rows]).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BninspectError):
        pool(Pooling(Window.of((2, 2)), average=True), np.zeros((1, 5, 2)))
    for axes in ((), (3,), (1, 1)):
        with pytest.raises(BninspectError):
            mean(np.zeros((2, 3)), axes)
