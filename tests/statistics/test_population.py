"""Moments of a population are those that NumPy finds in all of it, and the same bits for any order and batch size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.records import Array
from bninspect.statistics import sample_moments
from bninspect.statistics.population import Census, Population, pooled


def census(x: Array, axis: tuple[int, ...], size: int, order: Array | None = None) -> Population:
    order = np.arange(len(x)) if order is None else order
    channels = int(np.prod([x.shape[one] for one in axis]))
    found = Census(channels)
    for start in range(0, len(x), size):
        batch = x[order[start : start + size]]
        found.add(sample_moments.of_batch(batch, axis, len(batch)))
    return pooled([found])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 12),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from(["float16", "float32", "float64"]),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_no_order_and_no_batch_size_changes_a_bit(
    samples: int, shape: list[int], dtype: str, seed: int, data: st.DataObject
) -> None:
    axis = (data.draw(st.integers(1, len(shape))),)
    generator = np.random.default_rng(seed)
    scale = 10.0 ** generator.integers(-3, 4)
    x = (generator.standard_normal((samples, *shape)) * scale + 7).astype(dtype)
    first = census(x, axis, samples)
    for size in {1, 2, data.draw(st.integers(1, samples))}:
        other = census(x, axis, size, generator.permutation(samples))
        assert other.mean.tobytes() == first.mean.tobytes()
        assert other.variance.tobytes() == first.variance.tobytes()
    wide = np.moveaxis(x.astype(np.float64), axis[0], -1).reshape(-1, x.shape[axis[0]])
    np.testing.assert_allclose(first.mean, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(first.variance, wide.var(axis=0), rtol=1e-9, atol=1e-12 * scale**2)


def test_a_large_mean_costs_no_digit_of_the_variance() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((64, 9, 9, 3)) + 1e7
    found = census(x, (3,), 8)
    np.testing.assert_allclose(found.variance, (x - 1e7).var(axis=(0, 1, 2)), rtol=1e-9)


@pytest.mark.parametrize("channels_first", [False, True])
def test_long_rows_are_folded_without_losing_a_value(channels_first: bool) -> None:
    x = np.random.default_rng(2).standard_normal((5, 37, 41, 3)).astype(np.float32)
    given_x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if channels_first else x
    found = census(given_x, (1,) if channels_first else (3,), 2)
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(axis=(0, 1, 2)), rtol=1e-12)
    assert found.count == 5 * 37 * 41


def test_the_scatter_is_that_of_single_samples() -> None:
    x = np.random.default_rng(3).standard_normal((40, 6, 2)) * [1, 30] + [0, 500]
    found = census(x, (2,), 7)
    np.testing.assert_allclose(found.scatter_of_mean, x.mean(axis=1).std(axis=0, ddof=1))
    squares = np.square(x - x.mean(axis=(0, 1))).mean(axis=1)
    np.testing.assert_allclose(found.scatter_of_variance, squares.std(axis=0, ddof=1))


def test_a_mask_counts_only_what_it_lets_through() -> None:
    generator = np.random.default_rng(4)
    x = generator.standard_normal((9, 5, 3))
    mask = generator.random((9, 5, 1)) < 0.6
    mask[2] = False
    found = Census(3)
    for start in (0, 4):
        part = slice(start, start + (4 if start == 0 else 5))
        found.add(sample_moments.of_batch(x[part], (2,), len(x[part]), mask[part]))
    result = pooled([found])
    kept = x[mask[:, :, 0]]
    assert result.count == len(kept)
    assert result.samples == int(mask.any(axis=(1, 2)).sum())
    np.testing.assert_allclose(result.mean, kept.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.variance, kept.var(axis=0), rtol=1e-12)


def test_steps_of_a_sequence_belong_to_their_sample() -> None:
    x = np.random.default_rng(5).standard_normal((4 * 6, 3, 2))
    moments = sample_moments.of_batch(x, (2,), 4)
    np.testing.assert_allclose(moments.means, x.reshape(4, 18, 2).mean(axis=1))


def test_what_fills_up_a_batch_does_not_count() -> None:
    x = np.random.default_rng(6).standard_normal((4, 3, 2))
    assert (
        sample_moments.of_batch(x, (2,), 4, counted=3).means.tobytes()
        == sample_moments.of_batch(x[:3], (2,), 3).means.tobytes()
    )


def test_what_is_no_batch_is_refused() -> None:
    for axis, samples in (((0,), 4), ((1,), 3)):
        with pytest.raises(ValueError, match="is not a batch of"):
            sample_moments.of_batch(np.zeros((4, 2)), axis, samples)


def test_infinity_is_said() -> None:
    x = np.ones((4, 3, 2))
    x[1, 1, 1] = np.inf
    found = census(x, (2,), 2)
    assert not found.finite
    assert found.mean[0] == 1
    assert np.isnan(found.mean[1])
