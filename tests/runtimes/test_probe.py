"""The points at which a layer is probed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bninspect.runtimes import probe

LARGEST = {"float16": 65504.0, "float32": float(np.finfo(np.float32).max), "float64": float(np.finfo(np.float64).max)}


def test_every_channel_meets_its_mean_and_eight_deviations_on_either_side() -> None:
    mean, variance = np.array([3, -100, 0], np.float32), np.array([4, 0, 1e-36], np.float32)
    (x,) = probe.points({"moving_mean": mean, "moving_variance": variance}, 1e-3, (3,), 4, "float32")
    assert x.shape == (probe.POINTS, 1, 1, 3)
    steps = (x[:, 0, 0, :] - mean) / np.sqrt(variance.astype(np.float64) + 1e-3)
    for channel in range(3):
        assert 0.0 in steps[:, channel]
        near = steps[np.abs(steps[:, channel]) < 8.5, channel]
        assert near.min() == pytest.approx(-8)
        assert near.max() == pytest.approx(8)
        assert near.size >= 40
        assert np.abs(steps[:, channel]).max() == pytest.approx(1e10)


@pytest.mark.parametrize(
    ("axis", "rank", "channels", "shape"),
    [
        ((1,), 2, (5,), (64, 5)),
        ((1,), 4, (5,), (64, 5, 1, 1)),
        ((4,), 5, (5,), (64, 1, 1, 1, 5)),
        ((0,), 2, (5,), (5, 64)),
        ((1, 3), 4, (1, 6, 1, 3), (64, 6, 1, 3)),
        ((0,), 1, (5,), (5,)),
    ],
)
def test_points_have_the_rank_and_the_channel_position_of_the_layer(
    axis: tuple[int, ...], rank: int, channels: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    mean = np.arange(np.prod(channels), dtype=np.float32).reshape(channels) * 1000
    (x,) = probe.points({"moving_mean": mean, "moving_variance": np.ones_like(mean)}, 0.0, axis, rank, "float32")
    assert x.shape == shape
    if rank > 1:
        # Each channel around its own mean: the median is one of the means, in order.
        others = tuple(one for one in range(rank) if one not in axis)
        assert np.round(np.median(x, axis=others)).ravel().tolist() == mean.ravel().tolist()


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(
    st.sampled_from(["float16", "float32", "float64"]),
    hnp.arrays(np.float32, (4, 7), elements=FLOATS),
    st.sampled_from([0.0, 1e-12, 1e-3, 1.0]),
)
def test_x_is_finite_whatever_the_parameters(dtype: str, values: np.ndarray, epsilon: float) -> None:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    (x,) = probe.points(dict(zip(names, values, strict=True)), epsilon, (1,), 2, dtype)
    assert np.isfinite(x).all()
    assert np.abs(x).max() <= LARGEST[dtype]


@given(
    st.sampled_from(["float16", "float32"]),
    hnp.arrays(np.float32, (5,), elements=st.floats(-1e4, 1e4, width=32)),
    hnp.arrays(np.float32, (5,), elements=st.floats(-1e3, 1e3, width=32)),
    hnp.arrays(np.float32, (5,), elements=st.floats(0, 2.0**70, width=32)),
)
def test_y_stays_finite_in_the_type_of_the_output(
    dtype: str, mean: np.ndarray, gamma: np.ndarray, variance: np.ndarray
) -> None:
    arrays = {"gamma": gamma, "moving_mean": mean, "moving_variance": variance}
    (x,) = probe.points(arrays, 1e-3, (1,), 2, dtype)
    scale = gamma / np.sqrt(variance.astype(np.float64) + 1e-3)
    assert np.abs((x - mean) * scale).max() <= LARGEST[dtype]
    # What the kernel forms on its way, in float32.
    assert np.abs(x * scale).max() <= LARGEST["float32"]


def test_the_ends_of_the_range_are_no_trouble() -> None:
    largest = np.finfo(np.float64).max
    arrays = {"moving_mean": np.array([largest, -largest]), "moving_variance": np.array([largest, 0.0])}
    assert all(np.isfinite(x).all() for x in probe.points(arrays, 0.0, (1,), 2, "float64"))


@given(channels=st.integers(1, 40), most=st.integers(1, 500))
def test_a_large_layer_is_probed_in_pieces_that_together_are_the_whole(channels: int, most: int) -> None:
    mean = np.linspace(-1, 1, channels, dtype=np.float32)
    parameters = {"moving_mean": mean, "moving_variance": np.ones(channels, np.float32)}
    (whole,) = probe.points(parameters, 1e-3, (3,), 4, "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "PIECE", most)
        pieces = list(probe.points(parameters, 1e-3, (3,), 4, "float32"))
        assert all(piece.size <= probe.most_values(channels) <= max(most, channels) for piece in pieces)
    assert np.array_equal(np.concatenate(pieces), whole)
