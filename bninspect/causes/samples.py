"""What the detective keeps of a batch-norm call: some of its elements, and the moments of all of them.

A layer's activation may be large, and it is gone when the report is written, so a sample takes at most `LARGEST`
elements. Every channel gives its smallest and largest x, its worst elements, and others spread evenly. What an
element cannot tell, the statistics of the batch, the sample or the group that it belongs to, is taken along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bninspect.arithmetic.bounds import bound
from bninspect.arithmetic.formula import Float64, Parameters, normalise
from bninspect.errors import BninspectError
from bninspect.records import Array, BatchNorm, Form, Observation

LARGEST = 1 << 16
GROUPS = (2, 4, 8, 16, 32)
"""Numbers of groups that group normalisation is tried with."""

Flat = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SampleMoments:
    """Mean and biased variance, for each element, of the `n` values that were taken together with it."""

    mean: Float64
    variance: Float64
    n: int


@dataclass(frozen=True, eq=False)
class Sample:
    """Elements of one call of a layer: where they were, what went in and what came out, in float64."""

    shape: tuple[int, ...]
    """Of the whole x."""
    axis: tuple[int, ...]
    flat: Flat
    """Index of each element in the flattened x."""
    x: Float64
    y: Float64
    forms: tuple[Form, ...]
    """Orders of operations that the kernel may have: the bound is the largest of theirs."""
    arithmetic: str = "float32"
    output: str = "float32"
    moments: Mapping[str, SampleMoments] = field(default_factory=dict)
    """By what they are taken over: `batch`, `instance`, `position`, `layer`, `group 2` ..."""
    loaded: Mapping[str, Array] = field(default_factory=dict)
    """The parameters as the runtime loaded them."""
    half_digits: Mapping[str, Float64] = field(default_factory=dict)
    """By how much numbers may be off because they were typed with so many digits: `x` and `y` of each element, and
    `gamma`, `beta`, `mean`, `variance` of each channel."""

    @property
    def coordinates(self) -> tuple[Flat, ...]:
        """Index of each element along each axis of x."""
        return tuple(np.asarray(index, np.int64) for index in np.unravel_index(self.flat, self.shape))

    def along(self, axis: tuple[int, ...]) -> Flat:
        """Return the channel of each element if the parameters ran along `axis`."""
        coordinates = self.coordinates
        channel = np.zeros_like(self.flat)
        for one in sorted(axis):
            channel = channel * self.shape[one] + coordinates[one]
        return channel

    def take(self, chosen: Flat) -> Sample:
        """Return the sample with the chosen ones of its elements only."""
        return replace(
            self,
            flat=self.flat[chosen],
            x=self.x[chosen],
            y=self.y[chosen],
            moments={
                name: replace(of, mean=of.mean[chosen], variance=of.variance[chosen])
                for name, of in self.moments.items()
            },
            half_digits={name: by[chosen] if name in {"x", "y"} else by for name, by in self.half_digits.items()},
        )


def sample(layer: BatchNorm, observation: Observation, *, forms: tuple[Form, ...] = ()) -> Sample:
    """Return what `explain` needs to know of one call.

    Args:
        layer: the stored layer, which says what the worst elements are.
        observation: the call. Its arrays are not kept.
        forms: orders of operations that the kernel may have; that of the observation without them.

    Raises:
        BninspectError: x and y differ in shape, or the parameters do not fit x.
    """
    x, y, axis = observation.x, observation.y, observation.axis
    if x.shape != y.shape or not x.size:
        raise BninspectError("there is nothing to explain", why=f"x has shape {x.shape}, y has shape {y.shape}")
    flat = _chosen(x.shape, axis, x, _badness(layer, observation))
    where = np.unravel_index(flat, x.shape)
    return Sample(
        shape=x.shape,
        axis=axis,
        flat=flat,
        x=x[where].astype(np.float64),
        y=y[where].astype(np.float64),
        forms=forms or _forms(observation.form),
        arithmetic=observation.arithmetic,
        output=observation.output,
        moments=_all_moments(x, axis, where),
        loaded=observation.loaded,
    )


def _forms(form: Form) -> tuple[Form, ...]:
    return (Form.CENTRED, Form.AFFINE) if form is Form.UNKNOWN else (form,)


def _badness(layer: BatchNorm, observation: Observation) -> Float64:
    """Return how far each element is from the formula, in bounds; infinite where that is not a number."""
    x, axis, arithmetic = observation.x, observation.axis, observation.arithmetic
    if layer.epsilon is None:
        return np.zeros(x.shape)
    parameters = Parameters.of(layer, arithmetic)
    expected = normalise(parameters, x, axis=axis, arithmetic=arithmetic)
    allowed = bound(
        parameters,
        x,
        expected,
        form=observation.form,
        axis=axis,
        arithmetic=arithmetic,
        output=observation.output,
    )
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.abs(observation.y - expected) / allowed, nan=np.inf, posinf=np.inf)


def _chosen(shape: tuple[int, ...], axis: tuple[int, ...], x: Array, badness: Float64) -> Flat:
    """Return flat indices of at most LARGEST elements, or of four of each channel if that is more."""
    if x.size <= LARGEST:
        return np.arange(x.size)
    rows = _by_channel(x, axis)
    channels, n = rows.shape
    each = min(n, max(4, LARGEST // channels))
    worst = np.argpartition(_by_channel(badness, axis), n - each // 4, axis=1)[:, n - each // 4 :]
    spread = np.linspace(0, n - 1, each - 2 - each // 4).astype(np.int64)
    place = np.concatenate(
        [
            np.nan_to_num(rows).argmin(axis=1)[:, np.newaxis],
            np.nan_to_num(rows).argmax(axis=1)[:, np.newaxis],
            worst,
            np.broadcast_to(spread, (channels, spread.size)),
        ],
        axis=1,
    )
    numbers = _by_channel(np.arange(x.size).reshape(shape), axis)
    return np.unique(np.take_along_axis(numbers, place, axis=1))


def _by_channel(array: Array, axis: tuple[int, ...]) -> Array:
    """Return `array` as a matrix with one row per channel."""
    order = sorted(axis)
    channels = int(np.prod([array.shape[a] for a in order]))
    return np.moveaxis(array, order, range(len(order))).reshape(channels, -1)


def _all_moments(x: Array, axis: tuple[int, ...], where: tuple[NDArray[np.intp], ...]) -> dict[str, SampleMoments]:
    """Return the moments that other normalisations use: of the batch, of each sample, of groups of channels."""
    every = range(x.ndim)
    wide = x.astype(np.float64)
    found = {"batch": _moments(wide, tuple(a for a in every if a not in axis), where)}
    if 0 in axis:
        return found
    inner = tuple(a for a in every if a and a not in axis)
    if inner:
        found["instance"] = _moments(wide, inner, where)
        found["layer"] = _moments(wide, tuple(every)[1:], where)
    if int(np.prod([x.shape[a] for a in axis])) > 1:  # of one value the mean is that value, whatever it is
        found["position"] = _moments(wide, axis, where)
    if len(axis) == 1:
        channels = x.shape[axis[0]]
        for groups in GROUPS:
            if channels % groups == 0 and groups < channels:
                found[f"group {groups}"] = _group_moments(wide, axis[0], groups, where)
    return found


def _moments(x: Float64, over: tuple[int, ...], where: tuple[NDArray[np.intp], ...]) -> SampleMoments:
    with np.errstate(all="ignore"):
        mean = np.asarray(x.mean(axis=over, keepdims=True))
        variance = np.asarray(np.square(x - mean).mean(axis=over, keepdims=True))
    n = int(np.prod([x.shape[a] for a in over]))
    return SampleMoments(np.broadcast_to(mean, x.shape)[where], np.broadcast_to(variance, x.shape)[where], n)


def _group_moments(x: Float64, axis: int, groups: int, where: tuple[NDArray[np.intp], ...]) -> SampleMoments:
    size = x.shape[axis] // groups
    split = x.reshape((*x.shape[:axis], groups, size, *x.shape[axis + 1 :]))
    over = tuple(a for a in range(1, split.ndim) if a != axis)
    channel = where[axis]
    return _moments(split, over, (*where[:axis], channel // size, channel % size, *where[axis + 1 :]))
