"""Mismatches that people published with their numbers. Each must get its cause from the numbers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bninspect import causes
from bninspect.arithmetic import conventions
from bninspect.arithmetic.formula import batch_moments, moving_update, unbiased
from bninspect.arithmetic.rounding import bessel
from bninspect.causes import Explanation, Sample
from bninspect.records import BatchNorm, Form, Observation


def single(layer: dict[str, float], x: float, y: float, half_digit: float) -> Explanation:
    """Explain one number that was typed with so many digits."""
    g, b, m, v = (np.array([layer[name]], np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance"))
    stored = BatchNorm("bn", g, b, m, v, layer["epsilon"])
    sample = Sample(
        shape=(1, 1),
        axis=(1,),
        flat=np.array([0]),
        x=np.array([float(np.float32(x))]),
        y=np.array([y]),
        forms=(Form.CENTRED, Form.AFFINE),
        half_digits={"y": np.array([half_digit])},
    )
    return causes.explain(stored, [sample])


QUESTION = {
    "gamma": 1.0055743,
    "beta": -0.016652612,
    "moving_mean": -0.089603029,
    "moving_variance": 0.000436493,
    "epsilon": 1e-3,
}


def test_epsilon_outside_the_square_root() -> None:
    """Stack Overflow, 2017-05-21: why tf.nn.batch_normalization cannot be computed by hand."""
    found = single(QUESTION, -0.077417567, 0.543057, 5e-7)
    assert [cause.name for cause in found.causes] == ["epsilon-outside"]
    assert found.sentence == "epsilon added outside the square root: sqrt(variance) + epsilon"
    assert single(QUESTION, -0.077417567, 0.30664611, 5e-9).matches


def test_epsilon_clamped() -> None:
    """tensorflow#22985: epsilon 0 gave 173.20248 instead of 173.20508 in tf.nn.fused_batch_norm."""
    layer = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1 / 3, "epsilon": 0.0}
    found = single(layer, 100.0, 173.20248, 5e-6)
    sentences = {cause.name: cause.sentence for cause in found.causes}
    assert sentences["epsilon=1.001e-05"] == (
        "epsilon raised to 1.001e-05, as tf.nn.fused_batch_norm did up to TensorFlow 2.11"
    )
    # One channel with a variance of 1/3 cannot tell 1.001e-5 from 1e-5 by eight digits.
    assert set(sentences) == {"epsilon=1.001e-05", "epsilon=1e-05"}
    assert all("1e-03" in cause.separated_by for cause in found.causes)


def test_darknet_on_the_cpu() -> None:
    """pjreddie/darknet: the CPU divides by sqrt(variance) + 1e-6, a GPU by sqrt(variance + 1e-5)."""
    layer = {"gamma": 0.75, "beta": 0.5, "moving_mean": 0.25, "moving_variance": 2.0**-16, "epsilon": 1e-5}
    y = 0.75 * (0.375 - 0.25) / (2.0**-8 + 1e-6) + 0.5
    assert [cause.name for cause in single(layer, 0.375, round(y, 6), 5e-7).causes] == ["epsilon-outside=1e-06"]


def test_torch_normalises_with_the_biased_variance() -> None:
    """x.var(dim=0) is unbiased by default; whoever normalises with it gets something else than torch in training."""
    x = np.random.default_rng(5).normal(size=(3, 5)).astype(np.float32)
    mean, biased = (each.astype(np.float32) for each in batch_moments(x, (1,)))
    layer = BatchNorm("bn", None, None, mean, biased, 1e-5)
    y = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + np.float32(1e-5))
    found = causes.explain(layer, [causes.sample(layer, Observation("bn", "given", x, y, (1,)))])
    assert [cause.name for cause in found.causes] == ["batch-statistics-unbiased"]
    assert "n/(n-1)" in found.sentence


@pytest.mark.parametrize(
    ("biased", "stored", "n"),
    [(0.09011541, 0.09612311, 16), (1.25, 1.25 * 144 / 143, 144)],
)
def test_bessel_is_recognised_between_two_variances(biased: float, stored: float, n: int) -> None:
    """Stack Overflow 44808838 and pytorch#106366."""
    assert bessel(stored / biased, tolerance=1e-6) == n
    assert float(unbiased(np.array([biased]), n)[0]) == pytest.approx(stored, rel=1e-6)


def test_running_variance_of_torch() -> None:
    """pytorch#106366: 0.9 * 1 + 0.1 * 1.25 * 144/143 = 1.0259, by the momentum of the table."""
    (torch,) = (one for one in conventions.CONVENTIONS if one.framework == "PyTorch")
    assert torch.momentum is not None
    assert torch.stored is conventions.Estimator.UNBIASED
    after = moving_update(np.array([1.0]), unbiased(np.array([1.25]), 144), torch.momentum)
    assert float(after[0]) == pytest.approx(1.0259, abs=5e-5)


def test_overcorrected_variance_of_keras_2() -> None:
    """keras#10443: n = 4, a batch variance of 1.25 is stored as 1.6672224."""
    (keras,) = (one for one in conventions.CONVENTIONS if one.stored is conventions.Estimator.OVERCORRECTED)
    assert keras.epsilon is not None
    stored = unbiased(np.array([1.25]), 4, ddof=1 + keras.epsilon)
    assert float(stored[0]) == pytest.approx(1.6672224, abs=5e-8)


def test_moments_are_over_all_axes_but_the_channels() -> None:
    """Article on tf.nn.moments, 2023-09-09: three channels over a batch of two."""
    x = np.array([[0.69495416, 2.08983064, -1.08764684], [0.31431156, -0.98923939, -0.34656194]])
    mean, variance = batch_moments(x, (1,))
    np.testing.assert_allclose(mean, [0.50463283, 0.55029559, -0.71710438], atol=1e-7)
    np.testing.assert_allclose(variance, [0.0362222, 2.37016821, 0.13730171], atol=1e-7)


@pytest.mark.parametrize("n", [2, 16, 144])
def test_momentum_and_bessel_explain_no_output(n: int) -> None:
    """A moving variance that was estimated otherwise is still the one that both sides read."""
    random = np.random.default_rng(n)
    g, b, m, v = (random.uniform(0.5, 2, 6).astype(np.float32) for _ in range(4))
    layer = BatchNorm("bn", g, b, m, v, 1e-3, momentum=0.9)
    x = random.normal(size=(8, 6)).astype(np.float32)
    y = (x - m) / np.sqrt(v * np.float32(n / (n - 1)) + np.float32(1e-3)) * g + b
    found = causes.explain(layer, [causes.sample(layer, Observation("bn", "given", x, y, (1,)))])
    words: list[Any] = [cause.sentence for cause in found.causes]
    assert any(f"the variance multiplied by {n / (n - 1):.6g}, which is n/(n-1) for n = {n}" in one for one in words)
    assert not any("momentum" in one or "moving variance was" in one for one in words)
