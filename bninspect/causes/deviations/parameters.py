"""Deviations in how the four parameters and epsilon are used: numerics of one channel.

Who does it: see conventions.py for the epsilons, and the sentences for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np

from bninspect.arithmetic import conventions
from bninspect.arithmetic.formula import Float64
from bninspect.causes.hypothesis import Deviation
from bninspect.causes.predict import Reading, Root

EPSILONS = (1e-5, 1e-3, 0.0, 1e-6, 1e-4, 1e-2, 2e-5, 1.001e-5, 1e-7, 1e-8, 1e-12)
"""Epsilons in use, the most common first."""

DARKNET = 1e-6

Replacement: TypeAlias = Callable[[Reading], Float64]


def scaling(epsilon: float, *, has_zero: bool) -> Iterator[Deviation]:
    """Yield the deviations in how parameters and epsilon are used.

    Args:
        epsilon: the layer's; NaN if it is unknown.
        has_zero: whether a variance is zero.
    """
    yield from _epsilons(epsilon)
    yield from _roots(epsilon, has_zero=has_zero)
    yield from _variances()
    yield from _gammas()
    yield from _betas()
    yield from _means()


def _epsilons(stored: float) -> Iterator[Deviation]:
    for value in EPSILONS:
        if value != stored:
            yield epsilon_of(value, stored)


def epsilon_of(value: float, stored: float) -> Deviation:
    """Return the deviation of another epsilon inside the square root."""
    used = conventions.with_epsilon(value)
    sentence = f"epsilon {value:g}" + ("" if np.isnan(stored) else f" instead of {stored:g}")
    if value == 0:
        sentence = "epsilon left out: sqrt(variance)"
    elif value == conventions.CLAMP and stored < value:
        sentence = f"epsilon raised to {value:g}, as tf.nn.fused_batch_norm did up to TensorFlow 2.11"
    elif used:
        sentence += f" (the default of {' and '.join(used[:2])})"
    name = f"epsilon={value:g}"
    return Deviation(name, "epsilon", sentence, lambda reading, _: replace(reading, epsilon=value), {"epsilon": value})


def outside_of(value: float, sentence: str) -> Deviation:
    """Return the deviation of an epsilon of its own, added to the standard deviation."""

    def change(reading: Reading, _view: object) -> Reading:
        return replace(reading, epsilon=value, root=_outside)

    return Deviation(f"epsilon-outside={value:g}", "root", sentence, change, {"epsilon": value})


def _outside(variance: Float64, epsilon: float) -> Float64:
    return np.asarray(np.sqrt(variance) + epsilon)


def _roots(stored: float, *, has_zero: bool) -> Iterator[Deviation]:
    def root(name: str, sentence: str, function: Root) -> Deviation:
        return Deviation(name, "root", sentence, lambda reading, _: replace(reading, root=function))

    yield root("epsilon-outside", "epsilon added outside the square root: sqrt(variance) + epsilon", _outside)
    yield root(
        "divided-by-variance",
        "divided by variance + epsilon: the variance is taken for the standard deviation",
        lambda v, e: v + e,
    )
    yield root(
        "epsilon-twice",
        "epsilon added inside and outside the square root: sqrt(variance + epsilon) + epsilon",
        lambda v, e: np.sqrt(v + e) + e,
    )
    yield root(
        "epsilon-doubled",
        "epsilon added to the stored variance, and then once more: sqrt(variance + 2 * epsilon)",
        lambda v, e: np.sqrt(v + 2 * e),
    )
    yield root(
        "epsilon-as-floor",
        "the variance raised to epsilon instead of increased by it: sqrt(max(variance, epsilon))",
        lambda v, e: np.sqrt(np.maximum(v, e)),
    )
    yield root(
        "variance-ignored", "the variance ignored: x - mean is not divided by anything", lambda v, _e: np.ones(v.shape)
    )
    yield root(
        "inverse-deviation",
        "multiplied by the variance, as if 1 / standard deviation were stored",
        lambda v, _e: 1.0 / v,
    )
    yield root(
        "multiplied-by-deviation",
        "multiplied by sqrt(variance + epsilon) instead of divided by it",
        lambda v, e: 1.0 / np.sqrt(v + e),
    )
    yield root(
        "multiplied-by-variance",
        "multiplied by variance + epsilon instead of divided by its square root",
        lambda v, e: 1.0 / (v + e),
    )
    if has_zero:
        yield root(
            "zero-root",
            "epsilon left out, and a deviation of zero replaced by 1e-4, as in ncnn",
            lambda v, _e: np.where(v == 0, 1e-4, np.sqrt(v)),
        )
    if stored != DARKNET:
        yield outside_of(
            DARKNET, "epsilon 1e-06 added outside the square root, as Darknet does on the CPU: sqrt(variance) + 1e-06"
        )


def _variances() -> Iterator[Deviation]:
    variance = partial(_replaced, "variance")
    yield variance(
        "variance-squared",
        "the variance squared before use, as if a standard deviation were stored: sqrt(variance**2 + epsilon)",
        lambda r: np.square(r.variance),
    )
    yield variance(
        "variance-rooted",
        "the square root taken twice: sqrt(sqrt(variance) + epsilon)",
        lambda r: np.sqrt(r.variance),
    )
    yield variance(
        "variance-inverted",
        "the variance inverted before use, as if 1/variance were stored",
        lambda r: 1.0 / r.variance,
    )
    yield variance(
        "variance-exponential", "exp(variance) used, as if its logarithm were stored", lambda r: np.exp(r.variance)
    )
    yield variance(
        "variance-log10",
        "10**(2*variance) used, as if log10 of the standard deviation were stored (DL4J)",
        lambda r: 10.0 ** (2 * r.variance),
    )


def _gammas() -> Iterator[Deviation]:
    gamma = partial(_replaced, "gamma")
    yield gamma("gamma-ignored", "gamma ignored: 1 is used", lambda r: np.ones(r.gamma.shape))
    yield gamma("gamma-plus-one", "1 + gamma used, as if gamma were centred on zero", lambda r: 1.0 + r.gamma)
    yield gamma("gamma-absolute", "the absolute value of gamma used", lambda r: np.abs(r.gamma))
    yield gamma(
        "gamma-absolute-epsilon",
        "abs(gamma) + epsilon used, as in InPlaceABN",
        lambda r: np.abs(r.gamma) + r.epsilon,
    )
    yield gamma("gamma-exponential", "exp(gamma) used, as if its logarithm were stored", lambda r: np.exp(r.gamma))
    yield gamma("gamma-clipped", "gamma clipped at 0 where it is negative", lambda r: np.maximum(r.gamma, 0.0))
    yield gamma("gamma-squared", "gamma multiplied with twice", lambda r: np.square(r.gamma))
    yield Deviation(
        "gamma-and-beta-ignored",
        "gamma",
        "gamma and beta ignored: the result is only normalised",
        lambda r, _v: replace(r, gamma=np.ones(r.gamma.shape), beta=np.zeros(r.beta.shape)),
    )


def _betas() -> Iterator[Deviation]:
    beta = partial(_replaced, "beta")
    yield beta("beta-ignored", "beta ignored: 0 is used", lambda r: np.zeros(r.beta.shape))
    yield beta("beta-subtracted", "beta subtracted instead of added", lambda r: -r.beta)
    yield beta(
        "beta-before-gamma",
        "beta added before gamma is multiplied: (normalised + beta) * gamma",
        lambda r: r.beta * r.gamma,
    )
    yield beta("beta-twice", "beta added twice", lambda r: 2 * r.beta)


def _means() -> Iterator[Deviation]:
    mean = partial(_replaced, "mean")
    yield mean("mean-ignored", "the mean ignored: 0 is used", lambda r: np.zeros(r.mean.shape))
    yield mean("mean-added", "the mean added instead of subtracted", lambda r: -r.mean)


def _replaced(column: str, name: str, sentence: str, function: Replacement) -> Deviation:
    def change(reading: Reading, _view: object) -> Reading:
        return reading.using({column: function(reading)}, recomputed=True)

    return Deviation(name, column, sentence, change)
