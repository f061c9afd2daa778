"""What people do to the inputs of models, or forget to do: each a change that would make the data what it should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from bninspect.records import Array
from bninspect.statistics.data.preparations import (
    CAFFE_MEAN,
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    by_channel,
    channel_axis,
)

Apply: TypeAlias = Callable[[Array], Array | None]
"""Returns the changed array, float32, or None where the change makes no sense for such values or such a shape."""

_DECIBEL = 10 / math.log(10)
_MARGIN = 0.1
"""Part of a range by which values may be beyond it, to be called by it."""
_NEAR = 0.01
"""Part of the end of a range from which the largest value is not told."""
_RANGES = ((0.0, 1.0, "0..1"), (0.0, 255.0, "0..255"), (-1.0, 1.0, "-1..1"))


@dataclass(frozen=True)
class Candidate:
    """A change that is to be tried."""

    name: str
    data: str
    """What the data would be."""
    trained: str
    """What the model would have been trained on."""
    apply: Apply
    steps: int = 1

    @property
    def sentence(self) -> str:
        """What is wrong, in one line."""
        return f"{self.data}; {self.trained}"


def candidates(values: Array) -> Iterator[Candidate]:
    """Yield the changes to try on data of which `values` are samples, the simplest first."""
    scales = list(_scales(values))
    yield from scales
    yield from _shapes(values)
    yield from _others()
    if _is_colour(values):
        yield from _image_net(values)
    for scale in [*scales, *(_image_net(values) if _is_colour(values) else ())]:
        for shape in _shapes(values):
            if shape.name in {"channels-reversed", "grey", "inverted", "layout"}:
                yield _both(shape, scale)


def _both(first: Candidate, second: Candidate) -> Candidate:
    def apply(x: Array) -> Array | None:
        between = first.apply(x)
        return None if between is None else second.apply(between)

    return Candidate(
        f"{first.name} + {second.name}",
        f"{first.data}, and {second.data.removeprefix('the data is ')}",
        second.trained,
        apply,
        first.steps + second.steps,
    )


def _linear(name: str, data: str, trained: str, factor: float, shift: float = 0.0) -> Candidate:
    return Candidate(name, data, trained, lambda x: np.asarray(x * factor + shift, np.float32))


def _scales(values: Array) -> Iterator[Candidate]:
    least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    for low, high, data in _RANGES:
        likely = _is_like(least, most, low, high)
        for to_low, to_high, trained in _RANGES:
            if data != trained:
                factor = (to_high - to_low) / (high - low)
                shift = to_low - low * factor
                said = f"the data is {data}" if likely else "the data is on another scale"
                plus = f", {'plus' if shift > 0 else 'less'} {abs(shift):g}" if shift else ""
                wanted = trained if likely else f"it times {factor:.4g}{plus}"
                candidate = _linear(
                    f"scale {data} to {trained}", said, f"the model was trained on {wanted}", factor, shift
                )
                yield candidate if likely else replace(candidate, steps=2)
    yield _linear("scale int16", "the data is 16-bit integers", "the model was trained on -1..1", 1 / 32768)
    yield _linear("scale to int16", "the data is -1..1", "the model was trained on 16-bit integers", 32768.0)
    largest = float(np.abs(values).max(initial=0.0))
    if largest and all(abs(largest - usual) > _NEAR * usual for usual in (1.0, 255.0)):
        yield _linear("scale by largest", f"the data is 0..{largest:g}", "the model was trained on 0..1", 1 / largest)


def _is_like(least: float, most: float, low: float, high: float) -> bool:
    """Return whether values may be called by a range: they are not beyond it, and not within a smaller one."""
    margin = _MARGIN * (high - low)
    inside = low - margin <= least and most <= high + margin
    return inside and (low >= 0 or least < 0) and (high <= 1 or most > 1 + _MARGIN)


def _shapes(values: Array) -> Iterator[Candidate]:
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    yield _linear("inverted", "the data is inverted", "the model was trained on its negative", -1.0, low + high)
    if values.ndim == 4:
        yield Candidate(
            "transposed",
            "height and width are swapped",
            "the model was trained on them the other way round",
            _transposed,
        )
        yield Candidate(
            "layout",
            "the values lie in the order of the other layout (NHWC or NCHW)",
            "as it is not in training",
            _laid_out,
        )
    if _is_colour(values):
        yield Candidate(
            "channels-reversed",
            "the channels of the data are in the reverse order (RGB for BGR)",
            "the model was trained on the other order",
            lambda x: np.ascontiguousarray(np.flip(x, channel_axis(x))).astype(np.float32),
        )
        yield Candidate("grey", "the data is in colour", "the model was trained on grey, repeated", _grey)


def _is_colour(values: Array) -> bool:
    return values.ndim == 4 and values.shape[channel_axis(values)] == 3


def _transposed(x: Array) -> Array | None:
    places = (2, 3) if channel_axis(x) == 1 or (x.shape[1] in {1, 3} and x.shape[-1] not in {1, 3}) else (1, 2)
    changed = np.ascontiguousarray(np.swapaxes(x, *places)).astype(np.float32)
    return changed if changed.shape == x.shape else None


def _laid_out(x: Array) -> Array | None:
    n, a, b, c = x.shape
    if c == 1 or a == 1:
        return None
    if c in {3, 4} or a not in {3, 4}:  # stated as NHWC, laid out as NCHW
        return np.ascontiguousarray(x.reshape(n, c, a, b).transpose(0, 2, 3, 1)).astype(np.float32)
    return np.ascontiguousarray(x.reshape(n, b, c, a).transpose(0, 3, 1, 2)).astype(np.float32)


def _grey(x: Array) -> Array:
    axis = channel_axis(x)
    grey = (x * by_channel((0.299, 0.587, 0.114), x)).sum(axis=axis, keepdims=True)
    return np.repeat(grey, 3, axis=axis).astype(np.float32)


def _image_net(values: Array) -> Iterator[Candidate]:
    mode = "the model was trained on {} as of keras.applications"
    least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    for low, high, data in _RANGES:
        # Everything goes by way of 0..255 or 0..1.
        scale, shift = 255.0 / (high - low), -low * 255.0 / (high - low)

        def torch(x: Array, scale: float = scale, shift: float = shift) -> Array:
            unit = (x * scale + shift) / 255.0
            return np.asarray((unit - by_channel(IMAGENET_MEAN, x)) / by_channel(IMAGENET_DEVIATION, x), np.float32)

        def caffe(x: Array, scale: float = scale, shift: float = shift) -> Array:
            wide = np.flip(x, channel_axis(x)) * scale + shift
            return np.asarray(wide - by_channel(CAFFE_MEAN, x), np.float32)

        def undone_torch(x: Array, scale: float = scale, shift: float = shift) -> Array:
            wide = (x * by_channel(IMAGENET_DEVIATION, x) + by_channel(IMAGENET_MEAN, x)) * 255.0
            return np.asarray((wide - shift) / scale, np.float32)

        def undone_caffe(x: Array, scale: float = scale, shift: float = shift) -> Array:
            wide = np.flip(x + by_channel(CAFFE_MEAN, x), channel_axis(x))
            return np.asarray((wide - shift) / scale, np.float32)

        said = f"the data is {data}"
        if _is_like(least, most, low, high):
            yield Candidate(f"torch from {data}", said, mode.format("ImageNet's mean and deviation (torch)"), torch)
            yield Candidate(f"caffe from {data}", said, mode.format("BGR less ImageNet's mean (caffe)"), caffe)
        if least >= 0:
            continue  # no mean has been taken from it
        plain = f"the model was trained on {data}"
        yield Candidate(
            f"torch to {data}", "the data is normalised by ImageNet's mean and deviation (torch)", plain, undone_torch
        )
        yield Candidate(f"caffe to {data}", "the data is BGR less ImageNet's mean (caffe)", plain, undone_caffe)


def _others() -> Iterator[Candidate]:
    raw, logs = "the data is not logarithmic", "the model was trained on {}"
    for name, function, trained in (
        ("log", np.log, "its logarithm"),
        ("log1p", np.log1p, "log(1 + x)"),
        ("decibel", lambda x: 10 * np.log10(x), "its decibel, 10 log10"),
        ("decibel of amplitude", lambda x: 20 * np.log10(x), "its decibel, 20 log10"),
    ):
        yield Candidate(name, raw, logs.format(trained), _finite(function))
    for name, function, data in (
        ("exp", np.exp, "a logarithm"),
        ("expm1", np.expm1, "log(1 + x)"),
        ("power of decibel", lambda x: 10 ** (x / 10), "in decibel (10 log10)"),
        ("amplitude of decibel", lambda x: 10 ** (x / 20), "in decibel (20 log10)"),
    ):
        yield Candidate(name, f"the data is {data}", "the model was trained on the plain values", _finite(function))
    for name, factor, data, trained in (
        ("decibel from log", _DECIBEL, "a natural logarithm", "decibel, 10 log10"),
        ("decibel of amplitude from log", 2 * _DECIBEL, "a natural logarithm", "decibel of the square, 20 log10"),
        ("log from decibel", 1 / _DECIBEL, "in decibel (10 log10)", "its natural logarithm"),
        ("twice the decibel", 2.0, "in decibel (10 log10)", "20 log10"),
        ("half the decibel", 0.5, "in decibel (20 log10)", "10 log10"),
    ):
        yield _linear(name, f"the data is {data}", logs.format(trained), factor)
    yield Candidate(
        "standardised by sample",
        "the data is not standardised",
        "the model was trained on samples less their mean, divided by their deviation",
        _standardised,
    )


def _finite(function: Callable[[Array], Array]) -> Apply:
    def apply(x: Array) -> Array | None:
        with np.errstate(all="ignore"):
            changed = np.asarray(function(x.astype(np.float64)), np.float32)
        return changed if np.isfinite(changed).all() else None

    return apply


def _standardised(x: Array) -> Array | None:
    axes = tuple(range(1, x.ndim))
    wide = x.astype(np.float64)
    deviation = wide.std(axis=axes, keepdims=True)
    if not (deviation > 0).all():
        return None
    return np.asarray((wide - wide.mean(axis=axes, keepdims=True)) / deviation, np.float32)
