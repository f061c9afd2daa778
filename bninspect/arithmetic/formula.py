"""Batch normalisation by hand, in float64: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`.

Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithms 1 and 2; epsilon stands inside the square
root. The order of operations is the centred one because `x - mean` is rounded once, however large the mean
is: the result is the reference that every kernel is held against (bounds.py counts its own error too).

Arrays of parameters are (C,), one value per channel, or of the full rank that a layer over several axes has.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bninspect.arithmetic.rounding import rounded
from bninspect.errors import BninspectError, DamagedFile, UsageError
from bninspect.records import Array, BatchNorm, Statistics
from bninspect.safe_text import printable

Float64: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parameters:
    """The numbers of each channel, in float64. `dataclasses.replace` makes variants of them."""

    gamma: Float64
    beta: Float64
    mean: Float64
    variance: Float64
    epsilon: float

    @classmethod
    def of(cls, source: BatchNorm | Parameters, arithmetic: str = "float32") -> Parameters:
        """Take the parameters from a stored layer; `Parameters` are returned as they are.

        Args:
            source: the layer. Without a gamma it is 1, without a beta 0.
            arithmetic: type in which the kernel computes, to which it rounds epsilon, a Python float.

        Raises:
            UsageError: epsilon is unknown, or whether an array is gamma or beta.
            DamagedFile: an array that the layer should have is missing, or of another shape than the others.
        """
        if isinstance(source, Parameters):
            return source
        mean, variance, epsilon = _folded(source) if source.statistics is Statistics.FOLDED else _complete(source)
        gamma = np.ones(mean.shape) if source.gamma is None else source.gamma
        beta = np.zeros(mean.shape) if source.beta is None else source.beta
        if not gamma.shape == beta.shape == mean.shape == variance.shape:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in source.arrays.items())
            raise DamagedFile(_subject(source), why=f"its parameters differ in shape: {shapes}")
        with np.errstate(invalid="ignore"):  # a signalling NaN is data like any other
            wide = [array.astype(np.float64) for array in (gamma, beta, mean, variance)]
        return cls(wide[0], wide[1], wide[2], wide[3], rounded(epsilon, arithmetic))

    @property
    def root(self) -> Float64:
        """The denominator, sqrt(variance + epsilon); NaN where variance + epsilon is negative."""
        with np.errstate(all="ignore"):
            return np.asarray(np.sqrt(self.variance + self.epsilon))

    @property
    def slope(self) -> Float64:
        """What x is multiplied by: gamma / sqrt(variance + epsilon)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.gamma / self.root)

    @property
    def intercept(self) -> Float64:
        """What is added to slope * x: beta - mean * slope."""
        with np.errstate(all="ignore"):
            return np.asarray(self.beta - self.mean * self.slope)


def _subject(layer: BatchNorm) -> str:
    return f"layer '{printable(layer.name)}' cannot be computed"


def _folded(layer: BatchNorm) -> tuple[Array, Array, float]:
    """Return what makes the formula gamma * x + beta: a mean of 0, a variance of 1, an epsilon of 0."""
    array = layer.gamma if layer.gamma is not None else layer.beta
    if array is None:
        raise DamagedFile(_subject(layer), why="the file holds neither its scale nor its shift")
    return np.zeros(array.shape), np.ones(array.shape), 0.0


def _complete(layer: BatchNorm) -> tuple[Array, Array, float]:
    """Return moving mean, moving variance and epsilon, after checking that the formula lacks nothing."""
    if layer.undecided is not None:
        raise UsageError(
            _subject(layer),
            why="the file does not tell whether its third array is gamma or beta",
            hint="use the file of the whole model instead of its weights alone",
        )
    needed = {"gamma": layer.scale, "beta": layer.center, "moving_mean": True, "moving_variance": True}
    missing = [name for name, wanted in needed.items() if wanted and getattr(layer, name) is None]
    if missing or layer.moving_mean is None or layer.moving_variance is None:
        notes = "".join(f"; {printable(note)}" for note in layer.notes)
        raise DamagedFile(_subject(layer), why=f"the file holds no {' and no '.join(missing)}{notes}")
    if layer.epsilon is None:
        raise UsageError(
            _subject(layer),
            why="the file does not state its epsilon",
            hint="pass --epsilon VALUE: the default of Keras is 0.001, of PyTorch, ONNX and Flax 1e-05",
        )
    return layer.moving_mean, layer.moving_variance, layer.epsilon


def require_axes(shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    """Raise BninspectError unless `axis` names at least one axis of `shape`, none twice, none counted from the end."""
    if not axis or len(set(axis)) != len(axis) or not all(0 <= a < len(shape) for a in axis):
        raise BninspectError(f"axes {axis} are not axes of an array of shape {shape}")


def along(array: Array, shape: tuple[int, ...], axis: tuple[int, ...]) -> Array:
    """Return `array` of parameters reshaped so that it broadcasts against an x of `shape` along `axis`.

    (C,) and the full-rank shapes that frameworks store, such as (1, 6, 1, 3) for axis (1, 3), hold the
    numbers in the same order. Their lengths must be those of x along `axis`: nothing is ever stretched along
    it.

    Raises:
        BninspectError: they are not.
    """
    require_axes(shape, axis)
    lengths = [shape[a] for a in sorted(axis) if shape[a] != 1]
    if [n for n in array.shape if n != 1] != lengths:
        raise BninspectError(f"parameters of shape {array.shape} do not fit x of shape {shape} along axis {axis}")
    return array.reshape([n if a in axis else 1 for a, n in enumerate(shape)])


def normalise(
    source: BatchNorm | Parameters, x: Array, *, axis: tuple[int, ...], arithmetic: str = "float32"
) -> Float64:
    """Return `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, computed in float64.

    Args:
        source: a stored layer, or parameters taken from one.
        x: input, any shape and float dtype.
        axis: axes of x that the parameters run along, each 0 <= axis < x.ndim.
        arithmetic: type in which the kernel to compare with computes; it decides how epsilon is rounded.

    Returns:
        Float64 array of the shape of x. NaN where variance + epsilon is negative, as in every runtime.

    Raises:
        BninspectError: the parameters do not fit x, or are incomplete (see `Parameters.of`).
    """
    of = Parameters.of(source, arithmetic)
    mean, slope, beta = (along(each, x.shape, axis) for each in (of.mean, of.slope, of.beta))
    with np.errstate(all="ignore"):
        return np.asarray((x.astype(np.float64) - mean) * slope + beta)


def affine(source: BatchNorm | Parameters) -> tuple[Float64, Float64]:
    """Return (scale, shift) with `y = scale * x + shift`, in float64 and in the shape of the parameters.

    Epsilon is used as the file states it, not rounded as a kernel would: so an export wants it.

    Raises:
        BninspectError: the parameters are incomplete (see `Parameters.of`).
    """
    of = Parameters.of(source, "float64")
    return of.slope, of.intercept


def batch_moments(x: Array, axis: tuple[int, ...], *, where: Array | None = None) -> tuple[Float64, Float64]:
    """Return mean and biased variance (divided by n) of x over all axes but `axis`, in two passes in float64.

    Where there is a boolean `where`, which broadcasts against x, only values at which it is true count. The shape is
    (C,), or for several axes of full rank, such as (1, 6, 1, 3). NaN where there is no value.
    """
    others = tuple(a for a in range(x.ndim) if a not in axis)
    shape = tuple(n if a in axis else 1 for a, n in enumerate(x.shape)) if len(axis) > 1 else (x.shape[axis[0]],)
    if x.size == 0 or (where is not None and not where.any()):
        return np.full(shape, np.nan), np.full(shape, np.nan)
    counted: Any = True if where is None else where
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of channels without values
        mean = np.asarray(np.mean(x, axis=others, dtype=np.float64, keepdims=True, where=counted))
        variance = np.asarray(np.mean(np.square(x - mean), axis=others, keepdims=True, where=counted))
    return mean.reshape(shape), variance.reshape(shape)


def unbiased(variance: Float64, n: int | Float64, *, ddof: float = 1.0) -> Float64:
    """Return the biased `variance` of n values times n / (n - ddof), Bessel's correction.

    The fused kernel of tf_keras and torch average this in the moving variance; Keras 3 averages the biased
    one, and Keras 2.1.6 to 2.3.1 used `ddof=1 + epsilon`. The variance of a single value is left as it is:
    TensorFlow's CPU kernel divides by max(n - 1, 1). `n` may differ between channels.
    """
    several = np.maximum(n, 2)
    return np.asarray(variance * np.where(np.asarray(n) > 1, several / (several - ddof), 1.0))


def moving_update(moving: Float64, batch: Float64, momentum: float) -> Float64:
    """Return a moving statistic after one training step, `momentum * moving + (1 - momentum) * batch`.

    This is the convention of Keras; torch calls `1 - momentum` its momentum.
    """
    return moving * momentum + batch * (1.0 - momentum)
