"""One way to read the stored numbers and to compute with them, element by element: what a hypothesis is made of.

A `View` shows the elements of a sample together with the stored parameters. Its `reading()` is the formula itself; a
hypothesis replaces some of the fields. `predict` then says what such a kernel returns, and how far from that rounding
may take it: the bounds of bounds.py, for the numbers of that hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bninspect.arithmetic.bounds import Allowance, precision
from bninspect.arithmetic.formula import Float64, Parameters
from bninspect.arithmetic.rounding import narrowed, rounded
from bninspect.errors import BninspectError
from bninspect.records import Array, BatchNorm, Form

if TYPE_CHECKING:
    from bninspect.causes.samples import Flat, Sample

Role: TypeAlias = Literal["gamma", "beta", "mean", "variance"]
ROLES: tuple[Role, ...] = ("gamma", "beta", "mean", "variance")
PARAMETER_OF: Mapping[Role, str] = {
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
}
NEUTRAL: Mapping[Role, float] = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}
"""What a parameter is that the layer does not have, and before training."""

Arrays: TypeAlias = Mapping[Role, Float64]
"""The parameters that there are, one value per channel."""

Root: TypeAlias = Callable[[Float64, float], Float64]
"""What x - mean is divided by, from variance and epsilon."""

_NEAR_ZERO = 1e-12

Map: TypeAlias = Callable[[Float64], Float64]


@dataclass(frozen=True, eq=False)
class Around:
    """An operation before or after the batch norm."""

    function: Map
    stretch: float = 1.0
    """By how much it may stretch a difference of its argument."""
    units: float = 0.0
    """Its own rounding error, relative to its result, in unit roundoffs."""
    blur: float = 0.0
    """Its own error, absolute."""


def arrays_of(stored: Mapping[str, Array]) -> Arrays:
    """Return parameters by their role, flattened and in float64, from parameters by their standard name."""
    return {
        role: np.asarray(stored[PARAMETER_OF[role]], np.float64).ravel()
        for role in ROLES
        if PARAMETER_OF[role] in stored
    }


def inside(variance: Float64, epsilon: float) -> Float64:
    """Return the denominator of the formula, sqrt(variance + epsilon)."""
    return np.asarray(np.sqrt(variance + epsilon))


@dataclass(frozen=True, eq=False)
class Reading:
    """What goes into each element's arithmetic. All columns are float64 of the length of the sample."""

    x: Float64
    gamma: Float64
    beta: Float64
    mean: Float64
    variance: Float64
    epsilon: float
    arithmetic: str
    output: str
    forms: tuple[Form, ...]
    root: Root = inside
    relative: float = 0.0
    """Relative error of the deviation and of the mean that the kernel computed itself, beyond rounding."""
    recomputed: frozenset[str] = frozenset()
    """Columns that are not as stored: a kernel rounds them once more."""
    applied: int = 1
    """How often the batch norm is applied: 0, 1 or 2."""
    before: Around | None = None
    after: Around | None = None
    factor: float = 1.0
    """What the result is multiplied by."""
    apart: bool = False
    """Whether scale and shift are rounded apart, not the shift computed with the rounded scale."""
    folded: str | None = None
    """The type to which scale and shift are rounded, if they are computed first."""

    def using(self, columns: Mapping[Any, Float64], *, recomputed: bool = False) -> Reading:
        """Return the reading with other columns, by name; with `recomputed` they are no longer as stored.

        What happens to be as before is not a change: it must not widen the bound.
        """
        changed: dict[str, Any] = {name: c for name, c in columns.items() if not np.array_equal(c, getattr(self, name))}
        also = frozenset(changed) if recomputed else frozenset()
        return replace(self, **changed, recomputed=self.recomputed | also)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a reading says y is, and by how much a kernel that computes so may be off."""

    y: Float64
    bound: Float64


@dataclass(frozen=True, eq=False)
class View:
    """A sample beside the stored parameters."""

    sample: Sample
    arrays: Arrays
    epsilon: float
    """NaN if it is unknown."""
    channel: Flat
    """Of each element."""

    @classmethod
    def of(cls, layer: BatchNorm, sample: Sample) -> View:
        """Lay a sample beside the layer that it is of.

        Raises:
            BninspectError: the parameters do not fit the sample, or it is unknown which of them is which.
        """
        arrays = arrays_of(layer.arrays)
        channels = int(np.prod([sample.shape[a] for a in sample.axis]))
        if layer.undecided is not None or not arrays or any(array.size != channels for array in arrays.values()):
            raise BninspectError("there is nothing to explain", why=f"the parameters do not fit {channels} channels")
        epsilon = np.nan if layer.epsilon is None else layer.epsilon
        return cls(sample, arrays, epsilon, sample.along(sample.axis))

    def take(self, chosen: Flat) -> View:
        """Return the view of the chosen ones of its elements only."""
        return replace(self, sample=self.sample.take(chosen), channel=self.channel[chosen])

    def column(self, role: Role, channel: Flat | None = None) -> Float64:
        """Return the parameter of each element, as if it were in `channel`; neutral if the layer has none."""
        channel = self.channel if channel is None else channel
        if role not in self.arrays:
            return np.full(channel.shape, NEUTRAL[role])
        return self.arrays[role][channel]

    def reading(self) -> Reading:
        """Return the formula as it should be."""
        return Reading(
            x=self.sample.x,
            gamma=self.column("gamma"),
            beta=self.column("beta"),
            mean=self.column("mean"),
            variance=self.column("variance"),
            epsilon=self.epsilon,
            arithmetic=self.sample.arithmetic,
            output=self.sample.output,
            forms=self.sample.forms,
        )


def predict(reading: Reading) -> Prediction:
    """Return what a kernel computes that reads so, and its error bound; NaN where it promises nothing."""
    with np.errstate(all="ignore"):
        x = reading.x if reading.before is None else reading.before.function(reading.x)
        result = Prediction(x, np.zeros(x.shape))
        parameters = _parameters(reading)
        for _ in range(reading.applied):
            once = _apply(parameters, reading, result.y)
            result = Prediction(once.y, once.bound + np.abs(parameters.slope) * result.bound)
        if not reading.applied:
            result = Prediction(x, _rounding(x, reading))
        if reading.factor != 1.0:
            unit = precision(reading.arithmetic).unit
            scaled = result.y * reading.factor
            result = Prediction(scaled, abs(reading.factor) * result.bound + 2 * unit * np.abs(scaled))
        if reading.after is not None:
            unit = max(precision(reading.arithmetic).unit, precision(reading.output).unit)
            y = reading.after.function(result.y)
            own = reading.after.units * unit * np.abs(y) + reading.after.blur
            result = Prediction(y, reading.after.stretch * result.bound + own)
        return result


def refuted(reading: Reading, y: Float64) -> bool:
    """Return whether some y is further from a reading than any arithmetic goes, where that is cheap to say.

    Bounds are worth computing for the few hypotheses that come near. All of them, those of bfloat16 included, are below
    a sixteenth of the magnitudes here, except near zero and for what is done after the batch norm.
    """
    plain = reading.after is None and reading.applied == 1 and reading.factor == 1.0 and reading.folded is None
    if not plain or reading.relative or "float16" in {reading.arithmetic, reading.output}:
        return False
    with np.errstate(all="ignore"):
        x = reading.x if reading.before is None else reading.before.function(reading.x)
        root = reading.root(reading.variance, reading.epsilon)
        slope = reading.gamma / root
        size = np.abs(slope) * (np.abs(x) + np.abs(reading.mean)) + np.abs(reading.beta) + _NEAR_ZERO
        off = np.abs(y - (x - reading.mean) * slope - reading.beta) > size / 16
    return bool((off & np.isfinite(y) & (root > _NEAR_ZERO)).any())


def _rounding(y: Float64, reading: Reading) -> Float64:
    """Return the error of rounding y to the output type."""
    output = precision(reading.output)
    return output.unit * np.abs(y) + output.tiny


def _parameters(reading: Reading) -> Parameters:
    """Return the parameters of each element in the shape of the formula: the variance is that of the root."""
    root = reading.root(reading.variance, rounded(reading.epsilon, reading.arithmetic))
    return Parameters(reading.gamma, reading.beta, reading.mean, np.square(root), 0.0)


def _apply(parameters: Parameters, reading: Reading, x: Float64) -> Prediction:
    slope, spread = parameters.slope, np.zeros(x.shape)
    if reading.folded is not None:
        parameters, spread = _folded(parameters, reading.folded, x, apart=reading.apart)
        slope = parameters.slope
    product = (x - parameters.mean) * slope
    y = product + parameters.beta
    p, magnitude, size = np.abs(product), np.abs(x), np.abs(y)
    bound = np.maximum.reduce(
        [
            Allowance.of(parameters, form, reading.arithmetic, reading.output).at(p, magnitude, size)
            for form in reading.forms
        ]
    )
    if reading.arithmetic == "float16":
        # Nothing is promised where a step on the way may overflow.
        steps = np.maximum.reduce([magnitude * np.abs(slope), np.abs(parameters.mean * slope), parameters.variance])
        bound = np.where(steps < precision("float16").largest, bound, np.nan)
    if reading.recomputed:
        columns = {"x": x * slope, "gamma": product, "variance": product, "mean": parameters.mean * slope}
        columns["beta"] = parameters.beta
        unit = precision(reading.arithmetic).unit
        spread = spread + unit * sum(np.abs(columns[name]) for name in sorted(reading.recomputed))
    if reading.relative:
        # The root mean square is at least the mean of |x|, which the rounding of the mean is proportional to.
        level = np.sqrt(np.square(parameters.mean) + np.abs(parameters.variance))
        spread = spread + reading.relative * (np.abs(slope) * level + p)
    return Prediction(y, bound + spread)


def _folded(parameters: Parameters, kind: str, x: Float64, *, apart: bool) -> tuple[Parameters, Float64]:
    """Return scale and shift rounded to `kind` as parameters, and what a rounding to the other side would change.

    They were computed in float32 first: where that leaves open to which neighbour they are rounded, both are right.
    """
    slope, wobble = parameters.slope, 8 * precision("float32").unit
    scale = narrowed(slope, kind)
    other = np.abs(narrowed(slope * (1 + wobble), kind) - narrowed(slope * (1 - wobble), kind))
    used, doubt = (slope, np.zeros(slope.shape)) if apart else (scale, other)
    shift = parameters.beta - parameters.mean * used
    blur = wobble * (np.abs(parameters.beta) + np.abs(parameters.mean * used)) + np.abs(parameters.mean) * doubt
    unsure = np.abs(narrowed(shift + blur, kind) - narrowed(shift - blur, kind))
    none = np.zeros(scale.shape)
    return Parameters(scale, narrowed(shift, kind), none, none + 1.0, 0.0), np.abs(x) * other + unsure
