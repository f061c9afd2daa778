"""Deviations with a free number: an epsilon that nobody lists, or a common factor.

Each element leaves an interval for the number, from its error bound; a number must lie in all of them. It counts only
if two channels at least are sensitive to it: a number that one channel gives alone, no other can contradict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.rounding import bessel, nicest, rounded
from bninspect.causes.deviations.parameters import epsilon_of, outside_of
from bninspect.causes.fit import mark
from bninspect.causes.hypothesis import Deviation, Hypothesis, read
from bninspect.causes.lines import Lines, errors

if TYPE_CHECKING:
    from bninspect.causes.predict import Reading, View

Bounds: TypeAlias = tuple[Float64, Float64]
"""Lowest and highest value that each element leaves possible; not finite where it says nothing."""


@dataclass(frozen=True, eq=False)
class _FittedView:
    """One view under a hypothesis, and the lines that were measured on it."""

    view: View
    reading: Reading
    slope: Float64
    """As the hypothesis has it."""
    line: Bounds
    """The slope as all elements of the channel tell it."""

    def error(self, **known: Float64) -> Float64:
        """Return by how much each y may be off; see `lines.errors`."""
        known = {"x": self.reading.x, "slope": self.slope, "beta": self.reading.beta, **known}
        error = errors(self.view.sample, y=self.view.sample.y, **known)
        return np.asarray(error + self.view.sample.half_digits.get("y", 0.0))

    def slopes(self) -> Bounds:
        """Return the slope as each element alone tells it, if mean and beta are right."""
        y, reading = self.view.sample.y, self.reading
        aside = reading.x - reading.mean
        slope = (y - reading.beta) / aside
        half = self.error(slope=slope, p=y - reading.beta, shift=reading.mean * slope) / np.abs(aside)
        return slope - half, slope + half

    def root(self, slope: Bounds) -> Bounds:
        """Return gamma / slope; NaN where the slope may be zero or has the wrong sign."""
        low, high = _ordered(self.reading.gamma / slope[1], self.reading.gamma / slope[0])
        sound = (slope[0] * slope[1] > 0) & (low > 0)
        return np.where(sound, low, np.nan), np.where(sound, high, np.nan)

    def ratio_of_variances(self, root: Bounds) -> Bounds:
        """Return (root**2 - epsilon) / variance."""
        epsilon = rounded(self.reading.epsilon, self.reading.arithmetic)
        variance = np.where(self.reading.variance > 0, self.reading.variance, np.nan)
        return (np.square(root[0]) - epsilon) / variance, (np.square(root[1]) - epsilon) / variance


@dataclass(frozen=True, eq=False)
class FreeNumber:
    """A number that can be fitted: what leaves intervals for it, its value in the formula, what it becomes."""

    axis: str
    interval: Callable[[_FittedView], Bounds]
    neutral: float
    build: Callable[[float], Deviation]
    bessel: bool = False
    """Whether n/(n-1) or its inverse is a likely number."""


def fitted(base: Hypothesis, views: Sequence[View], measured: Sequence[Lines]) -> Iterator[Deviation]:
    """Yield the deviations with a free number that the views leave possible on top of a hypothesis.

    `measured` are the lines of the views. Where an interval is wide, the number with the fewest digits in it is taken,
    and then its middle.
    """
    taken = {deviation.axis for deviation in base}
    seen = [_seen(base, view, found) for view, found in zip(views, measured, strict=True)]
    for fit in free_numbers(views[0].epsilon):
        interval = None if fit.axis in taken else _common(fit, seen)
        if interval is not None:
            low, high = interval
            first = _known(fit.build(nicest(low, high, bessel=fit.bessel)), low, high)
            yield first
            yield replace(_known(fit.build((low + high) / 2), low, high), unless=frozenset({first.name}))


def free_epsilon(views: Sequence[View], measured: Sequence[Lines]) -> tuple[float, float] | None:
    """Return the epsilons that explain every element where none is stated; None if there are none, or if one is.

    A single channel is enough here: what it leaves open is not a cause, but it keeps the formula from being refuted.
    """
    (fit,) = (number for number in free_numbers(views[0].epsilon) if number.axis == "epsilon")
    if not np.isnan(fit.neutral):
        return None
    interval = _common(fit, [_seen((), view, found) for view, found in zip(views, measured, strict=True)], least=1)
    if interval is None or interval[1] < 0:
        return None
    alone = epsilon_of(max(0.0, sum(interval) / 2), fit.neutral)
    within = all(bool((mark((alone,), view).ratio <= 1.0).all()) for view in views)
    return (max(0.0, interval[0]), interval[1]) if within else None


def _known(deviation: Deviation, low: float, high: float) -> Deviation:
    return replace(deviation, details={**deviation.details, "low": low, "high": high})


def _seen(base: Hypothesis, view: View, found: Lines) -> _FittedView:
    reading = read(base, view)
    line, half = found.slope[view.channel], found.slope_error[view.channel]
    with np.errstate(all="ignore"):
        slope = reading.gamma / reading.root(reading.variance, rounded(reading.epsilon, reading.arithmetic))
    return _FittedView(view, reading, slope, (line - half, line + half))


def _common(fit: FreeNumber, seen: Sequence[_FittedView], least: int = 2) -> tuple[float, float] | None:
    """Return the interval that all elements leave, if it is not empty and `least` channels are sensitive to it."""
    low, high = -np.inf, np.inf
    sensitive = 0
    for one in seen:
        with np.errstate(all="ignore"):
            lowest, highest = fit.interval(one)
        known = np.isfinite(lowest) & np.isfinite(highest)
        if known.any():
            low, high = max(low, float(lowest[known].max())), min(high, float(highest[known].min()))
            apart = known & ((lowest > fit.neutral) | (highest < fit.neutral) | np.isnan(fit.neutral))
            sensitive = max(sensitive, np.unique(one.view.channel[apart]).size)
    return (low, high) if sensitive >= least and low <= high else None


def free_numbers(epsilon: float) -> tuple[FreeNumber, ...]:
    """Return the numbers that can be fitted for a layer with this epsilon."""
    return (
        FreeNumber("epsilon", _inside, epsilon, lambda k: epsilon_of(k, epsilon)),
        FreeNumber("root", _outside, epsilon, _epsilon_outside),
        FreeNumber(
            "variance",
            lambda seen: seen.ratio_of_variances(seen.root(seen.slopes())),
            1.0,
            _variance_times,
            bessel=True,
        ),
        FreeNumber(
            "variance",
            lambda seen: seen.ratio_of_variances(seen.root(seen.line)),
            1.0,
            _factor("statistics", "variance", ("mean", "variance"), "mean and variance"),
        ),
        FreeNumber("gamma", _gamma, 1.0, _factor("gamma", "gamma", ("gamma",), "gamma")),
        FreeNumber("beta", _beta, 1.0, _factor("beta", "beta", ("beta",), "beta")),
        FreeNumber("mean", _mean, 1.0, _factor("mean", "mean", ("mean",), "the mean")),
        FreeNumber("factor", _output, 1.0, _output_times),
        FreeNumber("factor", _input, 1.0, _factor("input", "factor", ("x",), "the input")),
    )


def _inside(seen: _FittedView) -> Bounds:
    low, high = seen.root(seen.slopes())
    return np.square(low) - seen.reading.variance, np.square(high) - seen.reading.variance


def _outside(seen: _FittedView) -> Bounds:
    low, high = seen.root(seen.slopes())
    deviation = np.sqrt(seen.reading.variance)
    return low - deviation, high - deviation


def _gamma(seen: _FittedView) -> Bounds:
    low, high = seen.slopes()
    return _ordered(low / seen.slope, high / seen.slope)


def _beta(seen: _FittedView) -> Bounds:
    y, reading = seen.view.sample.y, seen.reading
    p = (reading.x - reading.mean) * seen.slope
    error = seen.error(p=p, beta=np.abs(y) + np.abs(p), shift=reading.mean * seen.slope)
    return _ordered((y - p - error) / reading.beta, (y - p + error) / reading.beta)


def _mean(seen: _FittedView) -> Bounds:
    reading = seen.reading
    p, product = seen.view.sample.y - reading.beta, reading.x * seen.slope
    half = np.abs(seen.error(p=p, shift=np.abs(p) + np.abs(product)) / seen.slope)
    mean = reading.x - p / seen.slope
    return _ordered((mean - half) / reading.mean, (mean + half) / reading.mean)


def _output(seen: _FittedView) -> Bounds:
    y, reading = seen.view.sample.y, seen.reading
    p = (reading.x - reading.mean) * seen.slope
    expected = p + reading.beta
    # Bounds are linear in the magnitudes: what scales the output scales its bound. The factor is not known well yet.
    k = 2 * _typical(y) / _typical(expected)
    error = seen.error(p=k * p, x=k * reading.x, beta=k * reading.beta, shift=k * reading.mean * seen.slope)
    return _ordered((y - error) / expected, (y + error) / expected)


def _typical(values: Float64) -> np.float64:
    finite = np.abs(values[np.isfinite(values)])
    return np.float64(np.median(finite) if finite.size else np.nan)


def _input(seen: _FittedView) -> Bounds:
    reading = seen.reading
    p, shift = seen.view.sample.y - reading.beta, reading.mean * seen.slope
    needed = p / seen.slope + reading.mean
    half = np.abs(seen.error(x=needed, p=p, shift=np.abs(shift) + np.abs(needed * seen.slope)) / seen.slope)
    return _ordered((needed - half) / reading.x, (needed + half) / reading.x)


def _ordered(a: Float64, b: Float64) -> Bounds:
    return np.minimum(a, b), np.maximum(a, b)


def _epsilon_outside(value: float) -> Deviation:
    return outside_of(value, f"epsilon {value:g} added outside the square root: sqrt(variance) + {value:g}")


def _factor(name: str, axis: str, columns: tuple[str, ...], said: str) -> Callable[[float], Deviation]:
    def build(k: float) -> Deviation:
        def change(reading: Reading, _view: object) -> Reading:
            return reading.using({column: getattr(reading, column) * k for column in columns}, recomputed=True)

        return Deviation(f"{name}-factor={k:.6g}", axis, f"{said} multiplied by {k:.6g}", change, {"factor": k})

    return build


def _output_times(k: float) -> Deviation:
    def change(reading: Reading, _view: object) -> Reading:
        return replace(reading, factor=reading.factor * k)

    return Deviation(f"output-factor={k:.6g}", "factor", f"the output multiplied by {k:.6g}", change, {"factor": k})


def _variance_times(k: float) -> Deviation:
    built = _factor("variance", "variance", ("variance",), "the variance")(k)
    n = bessel(k)
    if n is None:
        return built
    said = "n/(n-1)" if k > 1 else "(n-1)/n"
    return replace(built, sentence=f"{built.sentence}, which is {said} for n = {n}", details={**built.details, "n": n})
