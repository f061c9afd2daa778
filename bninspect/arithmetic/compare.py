"""Is what a runtime returned what the formula says? Shapes first, then types, NaN, infinity, and then values.

An element agrees if |actual - expected| <= bound. Infinity agrees only as an overflow: the runtime returned an
infinity of the right sign, and the number plus its bound is beyond the output type. NaN never agrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bninspect.arithmetic import channel_strips
from bninspect.arithmetic.bounds import EVERY_FORM, Allowance, allowances, precision
from bninspect.arithmetic.chunks import tally_in_pieces
from bninspect.arithmetic.formula import Float64, Parameters
from bninspect.arithmetic.tally import Layout, Tally
from bninspect.errors import BninspectError
from bninspect.records import Array, BatchNorm, Channel, Comparison, Observation, Worst

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CHANNELS = 16
"""Channels with violations that a comparison lists."""
_MOST_DETAILED = 8
"""Channels that it shows with their parameters."""


def compare(
    expected: Float64,
    actual: Array,
    bound: Float64,
    *,
    x: Array,
    parameters: Parameters,
    axis: tuple[int, ...],
    output: str = "float32",
    observed: str = "in-model",
    reference: str = "formula",
) -> Comparison:
    """Compare two outputs of the same layer element by element; nothing is broadcast.

    Args:
        expected: float64 reference, such as `formula.normalise` returns.
        actual: what the runtime returned, in the NumPy type that holds `output` (float32 for bfloat16).
        bound: what each element may be off by, such as `bounds.bound` returns; an element whose bound is not a
            positive finite number is a violation.
        x: input of the layer.
        parameters: the layer's, to be shown with the worst element.
        axis: axes of x that the parameters run along.
        output: type to which the runtime rounded its result.
        observed: how `actual` came about (`Observation.observed`).
        reference: what `expected` is.

    Raises:
        BninspectError: shapes or types do not belong together.
    """
    _require_pair(actual, expected.shape, output)
    if not expected.shape == bound.shape == x.shape:
        raise BninspectError(
            "outputs cannot be compared",
            why=f"shapes differ: expected {expected.shape}, bound {bound.shape}, x {x.shape}",
        )
    tally = Tally(Layout(x.shape, axis), output)
    wide = [np.ascontiguousarray(each, dtype=np.float64).reshape(1, -1) for each in (expected, actual, bound)]
    tally.add(0, wide[0], wide[1], wide[2])
    return _comparison(tally, x, parameters, observed, reference)


def judge(observation: Observation, layer: BatchNorm, *, tolerance: tuple[float, float] | None = None) -> Comparison:
    """Compare one call of a layer with the formula applied to its stored parameters.

    The same as `normalise`, `bound` and `compare` one after the other, bit for bit, but in pieces that fit the
    cache, so that an activation costs neither float64 copies of itself nor the time to move them.

    Args:
        observation: the call. Whether it ran with batch statistics is not looked at.
        layer: the stored layer.
        tolerance: (rtol, atol) to use instead of the derived bound.

    Raises:
        BninspectError: x, y and the parameters do not belong together, or the parameters are incomplete.
    """
    parameters = Parameters.of(layer, observation.arithmetic)
    if tolerance is None:
        allowed = allowances(parameters, observation.form, observation.arithmetic, observation.output)
    else:
        allowed = (Allowance.fixed(parameters, rtol=tolerance[0], atol=tolerance[1]),)
    return with_parameters(observation, parameters, allowed)


def judge_unknown(observation: Observation, layer: BatchNorm) -> Comparison:
    """Compare one call of code that nobody knows: with the largest bound that any order of operations has.

    Args:
        observation: the call; its `form` is not looked at.
        layer: the stored layer.

    Raises:
        BninspectError: as `judge`.
    """
    arithmetic, output = observation.arithmetic, observation.output
    parameters = Parameters.of(layer, arithmetic)
    return with_parameters(
        observation, parameters, [Allowance.of(parameters, form, arithmetic, output) for form in EVERY_FORM]
    )


def with_parameters(
    observation: Observation, parameters: Parameters, allowed: Sequence[Allowance], reference: str = "formula"
) -> Comparison:
    """Compare one call of a layer with the formula applied to any parameters, as `judge` does.

    Args:
        observation: the call.
        parameters: with epsilon rounded to the arithmetic of the kernel.
        allowed: of which the largest is the bound of an element.
        reference: what the formula stands for.

    Raises:
        BninspectError: x, y and the parameters do not belong together.
    """
    x, y = observation.x, observation.y
    _require_pair(y, x.shape, observation.output)
    layout = Layout(x.shape, observation.axis)
    tally = Tally(layout, observation.output)
    tally_in_pieces(tally, layout, x, y, parameters, allowed)
    return _comparison(tally, x, parameters, observation.observed, reference)


def merge(a: Comparison, b: Comparison) -> Comparison:
    """Join the comparisons of two calls or two pieces of the same layer; the worse one gives the worst element.

    Raises:
        BninspectError: they are not of the same kind.
    """
    if (a.observed, a.reference) != (b.observed, b.reference):
        raise BninspectError(
            "comparisons cannot be joined",
            why=f"{a.observed} against {a.reference} is not {b.observed} against {b.reference}",
        )
    worse, other = (b, a) if _badness(b) > _badness(a) else (a, b)
    return Comparison(
        observed=a.observed,
        reference=a.reference,
        elements=a.elements + b.elements,
        violations=a.violations + b.violations,
        ratio=worse.ratio,
        max_abs=_largest(a.max_abs, b.max_abs),
        max_ulp=_largest(a.max_ulp, b.max_ulp),
        nonfinite=a.nonfinite + b.nonfinite,
        worst=worse.worst,
        channels=tuple(dict.fromkeys(worse.channels + other.channels))[:MOST_CHANNELS],
        calls=a.calls + b.calls,
        channel_ratios=channel_strips.joined(a.channel_ratios, b.channel_ratios),
        worst_channels=_worst_of(a.worst_channels + b.worst_channels),
    )


def _worst_of(channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """Return the worst of some channels, each once."""
    ordered = sorted(channels, key=lambda one: (one.ratio is not None, -(one.ratio or 0.0), one.channel))
    once: dict[int, Channel] = {}
    for one in ordered:
        once.setdefault(one.channel, one)
    return tuple(once.values())[:_MOST_DETAILED]


def _badness(comparison: Comparison) -> float:
    """Return the ratio; infinite if a violation has none, and -1 if there was nothing to compare."""
    if comparison.ratio is not None:
        return comparison.ratio
    return math.inf if comparison.violations else -1.0


def _largest(a: float | None, b: float | None) -> float | None:
    return max((each for each in (a, b) if each is not None), default=None)


def _require_pair(actual: Array, shape: tuple[int, ...], output: str) -> None:
    """Raise unless `actual` has this shape and is of the NumPy type that holds `output`."""
    if actual.shape != shape:
        raise BninspectError(
            "outputs cannot be compared", why=f"the runtime returned shape {actual.shape} instead of {shape}"
        )
    container = precision(output).container
    if actual.dtype.newbyteorder("=") != np.dtype(container):
        raise BninspectError(
            "outputs cannot be compared",
            why=f"the runtime returned {actual.dtype}, but {output} is held in {container}",
        )


def counted(tally: Tally, observed: str, reference: str) -> Comparison:
    """Return what a tally has counted, without its worst element."""
    elements = math.prod(tally.layout.shape)
    peaks = tally.peaks() if elements else np.zeros(0)
    order = np.argsort(-peaks, kind="stable")[:MOST_CHANNELS]
    return Comparison(
        observed=observed,
        reference=reference,
        elements=elements,
        violations=tally.violations,
        ratio=None if tally.unmeasured else tally.ratio,
        max_abs=tally.max_abs,
        max_ulp=tally.max_ulp,
        nonfinite=tally.nonfinite,
        worst=None,
        channels=tuple(order[peaks[order] > 1].tolist()),
        channel_ratios=channel_strips.peaks(peaks),
    )


def _comparison(tally: Tally, x: Array, parameters: Parameters, observed: str, reference: str) -> Comparison:
    peaks = tally.peaks() if x.size else np.zeros(0)
    order = np.argsort(-peaks, kind="stable")[:_MOST_DETAILED]
    worst, detailed = _worst(tally, x, parameters), _detailed(order, peaks, parameters)
    return replace(counted(tally, observed, reference), worst=worst, worst_channels=detailed)


def _detailed(channels: NDArray[np.int64], peaks: Float64, parameters: Parameters) -> tuple[Channel, ...]:
    """Return channels with their parameters."""
    stored = (parameters.gamma, parameters.beta, parameters.mean, parameters.variance)
    numbers = np.stack([peaks[channels], *(array.ravel()[channels] for array in stored)], axis=1)
    rows = zip(channels.tolist(), numbers.tolist(), strict=True)
    return tuple(Channel(channel, *map(_finite, row)) for channel, row in rows)


def _worst(tally: Tally, x: Array, parameters: Parameters) -> Worst | None:
    """Return the worst element with the numbers that make up its expected value, epsilon as the kernel rounds it."""
    element = tally.worst
    if element is None:
        return None
    index = tuple(int(i) for i in np.unravel_index(element.flat, x.shape))
    channel = int(tally.layout.channels(np.array([element.flat]))[0])
    return Worst(
        index=index,
        channel=channel,
        x=_finite(x[index]),
        expected=_finite(element.expected),
        actual=_finite(element.actual),
        bound=_finite(element.allowed),
        gamma=_finite(parameters.gamma.flat[channel]),
        beta=_finite(parameters.beta.flat[channel]),
        moving_mean=_finite(parameters.mean.flat[channel]),
        moving_variance=_finite(parameters.variance.flat[channel]),
        epsilon=_finite(parameters.epsilon),
    )


def _finite(number: float | np.floating[Any]) -> float | None:
    return float(number) if math.isfinite(number) else None
