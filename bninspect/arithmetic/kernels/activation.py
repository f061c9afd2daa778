"""Activations in float64, and what they make of an error.

An f with |f(a) - f(b)| <= L|a - b| widens an error E of its input to at most L*E, and a kernel computes f itself with
an error of its own. Relu, relu6, clip and the like only compare and select: L = 1, nothing of their own (limits are
representable, or rounded as the kernel holds them). Leaky relu and PReLU multiply once: u|y|.

The others are approximated by kernels. `_ERRORS` states the errors in units of u that are allowed for: relative to |y|,
and absolute, times max(1, |z|) where z multiplies something between 0 and 1 that was cancelled (gelu: 1 + erf; hard
swish as z * (z/6 + 1/2)). They are measured, not derived: over a dense sweep of [-30, 30] and 600,000 random inputs,
each is at least 1.5 times the worst that was seen of LiteRT (built-in kernels and XNNPACK), ONNX Runtime and torch
(sigmoid 7.2u of LiteRT, 2.3u absolute of ONNX Runtime at -12; tanh 5.1u; gelu 5.2u|z| of torch at -3.5; swish 7.7u).
Not covered: tables (int16 LiteRT), and what a converter makes of softplus and mish, which TFLite has no operation for:
its log(1 + exp(z)) overflows above 88.7.

Lipschitz constants: sigmoid 1/4; tanh, softplus, softsign 1; elu max(1, alpha); hard sigmoid alpha; hard swish 1.5 (at
z = 3); swish 1.0999 (at z = 2.4); gelu 1.1290 (at z = sqrt 2), its tanh form 1.1291; mish 1.0886.
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
    alpha: float = 0.0
    """Slope of leaky relu for negative inputs (0.3 in Keras, 0.01 in torch and ONNX, 0.2 in TensorFlow's op); factor
    of elu; slope of hard sigmoid (0.2 in old Keras and ONNX, 1/6 in Keras 3, torch and TFLite)."""
    beta: float = 0.0
    """Offset of hard sigmoid."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BninspectError(f"no such activation: {printable(self.kind)}")

    @property
    def is_exact(self) -> bool:
        """Whether a kernel adds no error of its own."""
        return self.kind in _SELECTING

    @property
    def limits(self) -> tuple[float, float]:
        """The numbers between which its results lie; infinite where there is no limit."""
        return {
            "relu": (0.0, math.inf),
            "relu6": (0.0, 6.0),
            "relu_n1_to_1": (-1.0, 1.0),
            "relu_0_to_1": (0.0, 1.0),
            "clip": (self.low, self.high),
        }.get(self.kind, (-math.inf, math.inf))


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
        widened = bound * _lipschitz(activation)
        size = np.maximum(1.0, np.abs(z) + bound) if activation.kind in _GATES else 1.0
        own = kernel.unit * (relative * (np.abs(y) + widened) + absolute * size)
        return np.asarray(widened + own + 4 * kernel.tiny)


def _sigmoid(z: Float64) -> Float64:
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, small) / (1.0 + small))


def _softplus(z: Float64) -> Float64:
    return np.asarray(np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z))))


def _erf(z: Float64) -> Float64:
    """Return the error function; NumPy has none, and math.erf is exact to the last place or two of float64."""
    return np.asarray(np.fromiter(map(math.erf, z.ravel().tolist()), np.float64, z.size)).reshape(z.shape)


def _clip(z: Float64, of: Activation) -> Float64:
    low, high = of.limits
    return np.minimum(np.maximum(z, low), high)


KINDS: Mapping[str, Function] = {
    "none": lambda z, _: z,
    "relu": _clip,
    "relu6": _clip,
    "relu_n1_to_1": _clip,
    "relu_0_to_1": _clip,
    "clip": _clip,
    "leaky_relu": lambda z, of: np.where(z >= 0, z, of.alpha * z),
    "sigmoid": lambda z, _: _sigmoid(z),
    "tanh": lambda z, _: np.tanh(z),
    "hard_sigmoid": lambda z, of: np.clip(of.alpha * z + of.beta, 0.0, 1.0),
    "hard_swish": lambda z, _: z * np.clip(z + 3.0, 0.0, 6.0) / 6.0,
    "swish": lambda z, _: z * _sigmoid(z),
    "gelu": lambda z, _: 0.5 * z * (1.0 + _erf(z / math.sqrt(2.0))),
    "gelu_tanh": lambda z, _: 0.5 * z * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3))),
    "elu": lambda z, of: np.where(z >= 0, z, of.alpha * np.expm1(np.minimum(z, 0.0))),
    "softplus": lambda z, _: _softplus(z),
    "softsign": lambda z, _: z / (1.0 + np.abs(z)),
    "mish": lambda z, _: z * np.tanh(_softplus(z)),
}

_SELECTING = {"none", "relu", "relu6", "relu_n1_to_1", "relu_0_to_1", "clip"}
_GATES = {"swish", "gelu", "gelu_tanh", "mish", "hard_swish"}
"""z times something between 0 and 1."""
_ERRORS: Mapping[str, tuple[float, float]] = {
    "leaky_relu": (2.0, 0.0),
    "sigmoid": (11.0, 4.0),
    "tanh": (8.0, 1.0),
    "hard_sigmoid": (3.0, 2.0),
    "hard_swish": (6.0, 1.0),
    "swish": (12.0, 2.0),
    "gelu": (8.0, 8.0),
    "gelu_tanh": (8.0, 4.0),
    "elu": (8.0, 2.0),
    "softplus": (9.0, 2.0),
    "softsign": (4.0, 0.0),
    "mish": (13.0, 4.0),
}
"""Units of u, relative to |y| and absolute."""


def _lipschitz(of: Activation) -> float:
    if of.kind in {"leaky_relu", "elu"}:
        return max(1.0, abs(of.alpha))
    if of.kind == "hard_sigmoid":
        return abs(of.alpha)
    slopes = {"sigmoid": 0.25, "hard_swish": 1.5, "swish": 1.0999, "gelu": 1.1290, "gelu_tanh": 1.1291, "mish": 1.0886}
    return slopes.get(of.kind, 1.0)


NONE = Activation()
RELU = Activation("relu")
RELU6 = Activation("relu6")
