"""What a training step stores, against the figures that frameworks gave and people published."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.arithmetic.training_step import step
from bninspect.errors import UsageError
from bninspect.records import explained
from bninspect.records.explained import Stored, TrainingStep
from bninspect.reports import Looks
from bninspect.reports.text import explain


def by(found: TrainingStep, framework: str) -> Stored:
    (row,) = (one for one in found.stored if one.framework.startswith(framework))
    return row


def test_moments_are_over_all_axes_but_the_channels() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    found = step(x, (3,))
    assert (found.over, found.n, found.channels) == ((0, 1, 2), 60, (0, 1, 2, 3, 4, 5))
    np.testing.assert_allclose(found.mean, x.mean(axis=(0, 1, 2), dtype=float))
    np.testing.assert_allclose(found.biased, x.var(axis=(0, 1, 2), dtype=float))
    np.testing.assert_allclose(found.unbiased, x.var(axis=(0, 1, 2), dtype=float, ddof=1))
    first = step(x, (1,), channels=(2,))
    assert (first.over, first.n, first.channels) == ((0, 2, 3), 90, (2,))
    np.testing.assert_allclose(first.mean, [x[:, 2].mean(dtype=float)])


def test_published_figures() -> None:
    # pytorch#106366: 144 values with a biased variance of 1.25
    x = np.tile([-1.0, 1.0], 72).reshape(-1, 1) * np.sqrt(1.25)
    found = step(x, (1,))
    assert found.biased == pytest.approx((1.25,))
    assert by(found, "PyTorch").variance == pytest.approx((1.0259,), abs=5e-5)
    # Stack Overflow 44808838: n = 16
    assert by(step(x[:16], (1,)), "tf_keras, fused").factor == pytest.approx(0.09612311 / 0.09011541, rel=1e-6)
    # keras#10443: n = 4, 1.25 is stored as 1.6672224
    found = step(x[:4], (1,))
    keras = by(found, "Keras 2.1.6")
    assert keras.factor is not None
    assert 1.25 * keras.factor == pytest.approx(1.6672224, abs=5e-8)


def test_the_update_starts_from_the_layer_and_uses_its_momentum() -> None:
    x = np.array([[1.0], [3.0]])
    found = step(x, (1,), moving_mean=np.array([10.0]), moving_variance=np.array([2.0]), momentum=0.75)
    assert by(found, "Keras 3").mean == (0.75 * 10 + 0.25 * 2,)
    assert by(found, "Keras 3").variance == (0.75 * 2 + 0.25 * 1,)
    assert by(found, "PyTorch").variance == (0.75 * 2 + 0.25 * 2,)
    assert all(one.momentum == 0.75 for one in found.stored)
    plain = step(x, (1,))
    assert by(plain, "PyTorch").momentum == 0.9
    assert by(plain, "tf.nn.fused_batch_norm").variance == ()


def test_a_single_value_per_channel() -> None:
    found = step(np.array([[1.0, 2.0]]), (1,))
    assert found.n == 1
    assert by(found, "PyTorch").single == "refused with an error"
    assert by(found, "tf_keras, fused").factor == 1.0
    assert by(step(np.ones((2, 2)), (1,)), "PyTorch").single == ""


def test_batches_that_are_none() -> None:
    for x in (np.ones((0, 3)), np.array([["a"]])):
        with pytest.raises(UsageError, match="has no moments"):
            step(x, (1,))
    with pytest.raises(UsageError, match="the batch has 3 channels, the layer 4"):
        step(np.ones((2, 3)), (1,), moving_mean=np.ones(4))
    with pytest.raises(UsageError, match="channels 0 to 2"):
        step(np.ones((2, 3)), (1,), channels=(3,))


def test_the_screen() -> None:
    answer = explained.answer((), step(np.array([[1.0], [2.0], [3.0], [4.0]]), (1,)))
    lines = explain.render(answer, Looks()).splitlines()
    assert lines[:3] == [
        "batch      shape 4x1: moments over axes 0, 4 values per channel",
        "           it is normalised with the biased variance, divided by n",
        "channel 0  mean 2.5, variance 1.25 biased, 1.666667 unbiased",
    ]
    (torch,) = (one for one in lines if "PyTorch" in one)
    assert torch.split() == ["PyTorch", "1e-05", "0.9", "n", "-", "1", "1.333333", "0.25", "1.066667"]
    assert answer.exit_code == 0
