"""Roots of variances that TorchScript takes in single operators: of a batch norm that is taken apart.

The source says what is computed, but names no values that could be looked at. So these are counted, and not read: the
root of a stored variance and epsilon, and that of a variance over the batch. What LayerNorm, GroupNorm, InstanceNorm
and RMSNorm take the root of is a moment within each sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bninspect.formats.torch.objects import PickledTensor

_VIEWED = "alias clone contiguous detach expand reshape slice squeeze to type_as unsqueeze view view_as"
VIEWS = frozenset(_VIEWED.split())
_ROOTS = frozenset(("sqrt", "rsqrt"))
_MOMENTS = frozenset(("mean", "var", "var_mean"))
_DEVIATIONS = frozenset(("std", "std_mean"))
_ARITHMETIC = frozenset(("add", "sub", "sum", "square", "mul", "div", "neg", "reciprocal"))
KERNEL, UNDONE = "scales a kernel", "multiplies data"
"""Uses of a root that together normalise nothing."""
_NEXT_TO_BATCH = -3
_RANK = 4


@dataclass(frozen=True)
class ScriptConstant:
    """One of the constants of a module that was frozen."""

    name: str


@dataclass(frozen=True)
class ScriptTensor:
    """Stored numbers in another shape."""


@dataclass(frozen=True)
class OfBatch:
    """A moment over the batch."""


@dataclass(frozen=True)
class ScriptTotal:
    """A sum over the batch."""


@dataclass(frozen=True)
class ScriptDifference:
    """Data without its mean over the batch, or, if squared, the square of that."""

    squared: bool = False


@dataclass(frozen=True)
class Under:
    """What stands under a root: a variance and epsilon."""

    variance: ScriptTensor | OfBatch


@dataclass(frozen=True)
class ScriptDeviation:
    """The root of a variance, to which epsilon may yet be added."""

    variance: ScriptTensor | OfBatch


@dataclass(frozen=True)
class ScriptRoot:
    """The root of a variance and epsilon, or what numbers that are stored make of it."""

    variance: ScriptTensor | OfBatch
    inverse: bool = False
    """Whether it is one by the root."""
    taken: ScriptRoot | None = None
    """The root that it was made of."""

    @property
    def root(self) -> ScriptRoot:
        """Return the root itself."""
        return self.taken or self

    @property
    def reason(self) -> str:
        """Return why it is not read."""
        of = "a stored variance" if isinstance(self.variance, ScriptTensor) else "a variance over the batch"
        return f"the root of {of} and epsilon: TorchScript does not name what is computed in single operators"


def value(name: str, given: Sequence[Any], unknown: Any) -> Any:
    """Return what an operator makes of values, as far as it may be a part of a batch norm; `unknown` for all else."""
    name, first = name.removesuffix("_"), _variance(given[0]) if given else None
    other = given[1] if len(given) > 1 else None
    if name in VIEWS:
        return first if first is not None else given[0] if given and isinstance(given[0], _PARTS) else unknown
    if name in _MOMENTS and _is_batch(other):
        return (OfBatch(), OfBatch()) if name == "var_mean" else OfBatch()
    if name in _DEVIATIONS and _is_batch(other):
        return (ScriptDeviation(OfBatch()), OfBatch()) if name == "std_mean" else ScriptDeviation(OfBatch())
    if name in _ARITHMETIC and given:
        return _arithmetic(name, given, unknown)
    if name in {"clamp", "clamp_min"} and isinstance(first, OfBatch):
        return Under(first)
    if name == "pow" and given and given[0] == ScriptDifference():
        return _arithmetic("mul" if other == 2 else "pow", given, unknown)
    if name in _ROOTS or (name == "pow" and other in (0.5, -0.5)):
        if given and isinstance(given[0], Under):
            return ScriptRoot(given[0].variance, inverse=name == "rsqrt" or other == -0.5)
        return ScriptDeviation(first) if first is not None and name == "sqrt" else unknown
    return unknown


def _arithmetic(name: str, given: Sequence[Any], unknown: Any) -> Any:
    first, other = _variance(given[0]), given[1] if len(given) > 1 else None
    if name == "add":
        return _sum(given, unknown)
    if name == "sub" and isinstance(first, OfBatch):
        return first  # E[x^2] - E[x]^2
    if name == "sub":
        return ScriptDifference() if isinstance(other, (OfBatch, ScriptTotal)) else unknown
    if name == "sum":
        total = OfBatch() if given[0] == ScriptDifference(squared=True) else ScriptTotal()
        return total if _is_batch(other) else unknown
    if name == "square" or given[0] == ScriptDifference():
        squares = given[0] == ScriptDifference() and (name == "square" or other in (2, given[0]))
        return ScriptDifference(squared=True) if squares else unknown
    if name in {"neg", "reciprocal"}:
        return _turned(given[0], name == "reciprocal") if isinstance(given[0], ScriptRoot) else unknown
    return _scaled(name, given, unknown) if name in {"mul", "div"} else unknown


def _scaled(name: str, given: Sequence[Any], unknown: Any) -> Any:
    """Return a moment, or a root, that is multiplied or divided by a number or a parameter."""
    root = next((one for one in given if isinstance(one, ScriptRoot)), None)
    if root is not None:
        scaled = any(isinstance(_variance(one), ScriptTensor) and not _is_kernel(one) for one in given)
        return _turned(root, name == "div" and given[0] is not root) if scaled else unknown
    moment = isinstance(_variance(given[0]), OfBatch) or isinstance(given[0], ScriptTotal)
    return given[0] if moment else unknown


def _turned(root: ScriptRoot, over: bool) -> ScriptRoot:  # noqa: FBT001 - called by position
    """Return the root, or one by it."""
    return replace(root, inverse=root.inverse != over, taken=root.root)


def use(name: str, given: Sequence[Any], root: ScriptRoot) -> str:
    """Return what an operator does with a root; empty where it makes another of it.

    Training that knows of quantisation scales a kernel by gamma over the root and divides what comes out of the
    convolution by the same: nothing is normalised by that, and the batch norm follows.
    """
    name = name.removesuffix("_")
    if name in VIEWS or name in {"neg", "reciprocal"}:
        return ""
    if name not in {"mul", "div"} or len(given) < 2:
        return name
    other = given[1] if given[0] is root else given[0]
    if isinstance(_variance(other), ScriptTensor):
        return KERNEL if _is_kernel(other) else ""
    over = name == "div" and given[1] is root
    return UNDONE if over == root.inverse else name


def _is_kernel(value: Any) -> bool:
    return isinstance(value, PickledTensor) and math.prod(value.shape) > max(value.shape, default=1)


def _sum(given: Sequence[Any], unknown: Any) -> Any:
    for one, other in (given[:2], given[1::-1]) if len(given) > 1 else ():
        if type(other) is float or isinstance(other, ScriptConstant):  # a trace keeps epsilon as a constant
            if (variance := _variance(one)) is not None:
                return Under(variance)
            if isinstance(one, ScriptDeviation):
                return ScriptRoot(one.variance)
    return unknown


def _variance(value: Any) -> ScriptTensor | OfBatch | None:
    if isinstance(value, (PickledTensor, ScriptConstant)):
        return ScriptTensor()
    return value if isinstance(value, (ScriptTensor, OfBatch)) else None


def _is_batch(axes: Any) -> bool:
    """Return whether axes are those of a batch and its places, as far as can be told where nobody knows the rank."""
    if not isinstance(axes, tuple) or not all(type(axis) is int for axis in axes):
        return False
    if 0 in axes:
        return len(axes) < _RANK or 1 not in axes
    return -_RANK in axes and _NEXT_TO_BATCH not in axes


_PARTS = (Under, ScriptDeviation, ScriptRoot, ScriptTotal, ScriptDifference)
