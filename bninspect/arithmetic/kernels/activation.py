"""Activations in float64, and what they make of an error.

An f with |f(a) - f(b)| <= L|a - b| widens an error E of its input to at most L*E, and a kernel computes f itself with
an error of its own. A clip (relu, relu6) only compares and selects: L = 1, nothing of its own (limits are
representable, or rounded as the kernel holds them). Of tanh L = 1; kernels approximate it: `_ERRORS` states by how
much, in units of u, relative to |y| and absolute. That is measured, not derived: over a dense sweep of [-30, 30] and
600,000 random inputs, it is at least 1.5 times the worst that was seen of LiteRT (built-in kernels and XNNPACK), ONNX
Runtime and torch (5.1u).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.errors import BninspectError
from bninspect.safe_text import printable

Function = Callable[[Float64, "Activation"], Float64]


@dataclass(frozen=True)
class Activation:
    """What is applied to each element. The kinds are the keys of `KINDS`."""

    kind: str = "none"
    low: float = -math.inf
    """Of clip."""
    high: float = math.inf
    """Of clip."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BninspectError(f"no such activation: {printable(self.kind)}")

    @property
    def is_exact(self) -> bool:
        """Whether a kernel adds no error of its own."""
        return self.kind not in _ERRORS


def activate(activation: Activation, z: Float64) -> Float64:
    """Return f(z), in float64, of the same shape."""
    with np.errstate(all="ignore"):
        return np.asarray(KINDS[activation.kind](z, activation), np.float64)


def activated_bound(
    activation: Activation, z: Float64, bound: Float64, arithmetic: str = "float32", y: Float64 | None = None
) -> Float64:
    """Return by how much f of something that is off by `bound` may be off, as a kernel computes it.

    Args:
        activation: f.
        z: exact inputs.
        bound: by how much the inputs may be off, of the same shape; NaN stays NaN.
        arithmetic: type in which the kernel computes.
        y: f(z), if it is known already.
    """
    if activation.is_exact:
        return bound
    kernel = precision(arithmetic)
    y = activate(activation, z) if y is None else y
    relative, absolute = _ERRORS[activation.kind]
    with np.errstate(all="ignore"):
        own = kernel.unit * (relative * (np.abs(y) + bound) + absolute)
        return np.asarray(bound + own + 4 * kernel.tiny)


KINDS: Mapping[str, Function] = {
    "none": lambda z, _: z,
    "clip": lambda z, of: np.minimum(np.maximum(z, of.low), of.high),
    "tanh": lambda z, _: np.tanh(z),
}
_ERRORS: Mapping[str, tuple[float, float]] = {"tanh": (8.0, 1.0)}
"""Units of u, relative to |y| and absolute."""
NONE = Activation()
