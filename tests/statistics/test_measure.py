"""Moments of what arrives, put together from batches: those of NumPy in any layout, bit for bit in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from bninspect.records import Array, Arrival, BatchNorm
from bninspect.runtimes.runtime import Receive
from bninspect.statistics.data.samples import Batch
from bninspect.statistics.measure import measure
from bninspect.statistics.population import Population


def layer(channels: int) -> BatchNorm:
    ones = np.ones(channels, np.float32)
    return BatchNorm("norm", ones, ones, ones, ones)


def measured(x: Array, axis: int, size: int, order: Sequence[int]) -> Population:
    """Measure samples in batches of one size, of one piece of memory that is used again and again."""
    memory = np.empty((size, *x.shape[1:]), x.dtype)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(order), size):
            part = list(order[start : start + size])
            yield Batch({"x": x[part + part[-1:] * (size - len(part))]}, len(part), size)

    def forward(data: Mapping[str, Array], receive: Receive, _until: frozenset[str] | None) -> None:
        memory[...] = data["x"]
        receive(Arrival("norm", memory, (axis,)))

    return measure(forward, batches(), [layer(x.shape[axis])]).populations["norm"]


@pytest.mark.parametrize("shape", [(71, 5), (71, 4, 3, 5), (71, 60, 70, 5), (71, 1, 1, 5)])
@pytest.mark.parametrize("first", [False, True])
def test_moments_are_those_of_numpy_in_any_order(shape: tuple[int, ...], first: bool) -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal(shape) * [1, 10, 0.1, 3, 0] + [0, 5, 1000, -2, 7]).astype(np.float32)
    axis = 1 if first else len(shape) - 1
    x = np.ascontiguousarray(np.moveaxis(x, -1, axis))
    others = tuple(place for place in range(x.ndim) if place != axis)
    found = measured(x, axis, 8, range(71))
    assert (found.samples, found.count) == (71, x.size // 5)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(found.mean, wide.mean(axis=others), rtol=1e-12)
    np.testing.assert_allclose(found.variance, wide.var(axis=others), rtol=1e-10, atol=1e-12)
    other = measured(x, axis, 8, generator.permutation(71).tolist())
    assert found.mean.tobytes() == other.mean.tobytes()
    assert found.variance.tobytes() == other.variance.tobytes()


def test_a_layer_that_is_called_twice_is_held_against_what_training_averages() -> None:
    from bninspect.statistics.fit import Trained, critical, judge

    generator = np.random.default_rng(3)
    calls = [generator.standard_normal((600, 4)).astype(np.float32) + shift for shift in (-3, 3)]

    def forward(data: Mapping[str, Array], receive: Receive, _until: frozenset[str] | None) -> None:
        for values in calls:
            receive(Arrival("norm", values[data["x"]], (1,)))

    batches = [Batch({"x": np.arange(start, start + 30)}, 30, 30) for start in range(0, 600, 30)]
    found = measure(forward, batches, [layer(4)]).populations["norm"]
    both = np.concatenate(calls).astype(np.float64)
    assert (found.samples, found.count) == (600, 1200)
    np.testing.assert_allclose(found.mean, both.mean(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.variance, both.var(axis=0), rtol=1e-12)

    def verdict(variance: float) -> str:
        ones = np.ones(4)
        norm = BatchNorm("norm", None, None, 0 * ones, variance * ones, epsilon=1e-3, momentum=0.9)
        return judge(norm, found, Trained(32, assumed=False), critical(4, 600), 0.25).verdict

    assert [verdict(variance) for variance in (0.3, 1.0, 10.0, 40.0)] == ["differs", "fits", "fits", "differs"]


def test_a_wrong_number_of_channels_is_said() -> None:
    def forward(data: Mapping[str, Array], receive: Receive, _until: frozenset[str] | None) -> None:
        receive(Arrival("norm", data["x"], (1,)))

    x = np.zeros((4, 3), np.float32)
    found = measure(forward, [Batch({"x": x}, 4, 4)], [layer(5)])
    assert found.populations == {}
    assert "3 channels arrive" in found.refused["norm"]
