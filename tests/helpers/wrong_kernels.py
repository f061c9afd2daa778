"""Kernels that are wrong in one way each, in float32 NumPy and by the name of what is wrong with them.

Written from the sentences, not from the code under test. A kernel takes x of shape (N, H, W, C) and the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from bninspect.records import Array

Kernel = Callable[[Array, "Numbers"], Array]


@dataclass(frozen=True)
class Numbers:
    """Parameters in float32."""

    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    epsilon: float


def norm(x: Array, g: Any, b: Any, m: Any, v: Any, eps: float) -> Array:
    """The right kernel, centred, in float32."""
    one = np.float32(1)
    y = (x - np.float32(m)) * (one / np.sqrt(np.float32(v) + np.float32(eps)) * np.float32(g)) + np.float32(b)
    return np.asarray(y, np.float32)


def right(x: Array, n: Numbers) -> Array:
    return norm(x, n.gamma, n.beta, n.mean, n.variance, n.epsilon)


def divided(x: Array, n: Numbers, root: Any) -> Array:
    return np.asarray((x - n.mean) / np.float32(root) * n.gamma + n.beta, np.float32)


def _with(**changes: Callable[[Numbers], Any]) -> Kernel:
    def kernel(x: Array, n: Numbers) -> Array:
        g, b, m, v, eps = (
            changes[name](n) if name in changes else getattr(n, name)
            for name in ("gamma", "beta", "mean", "variance", "epsilon")
        )
        return norm(x, g, b, m, v, eps)

    return kernel


def _statistics(axes: tuple[int, ...], *, ddof: int = 0, mean: bool = True, variance: bool = True) -> Kernel:
    def kernel(x: Array, n: Numbers) -> Array:
        m = x.mean(axis=axes, keepdims=True, dtype=np.float32)
        v = x.var(axis=axes, keepdims=True, ddof=ddof, dtype=np.float32)
        return norm(x, n.gamma, n.beta, m if mean else n.mean, v if variance else n.variance, n.epsilon)

    return kernel


def _groups(groups: int, ddof: int = 0) -> Kernel:
    def kernel(x: Array, n: Numbers) -> Array:
        batch, height, width, channels = x.shape
        split = x.reshape(batch, height, width, groups, channels // groups)
        m = split.mean(axis=(1, 2, 4), keepdims=True, dtype=np.float32)
        v = split.var(axis=(1, 2, 4), keepdims=True, ddof=ddof, dtype=np.float32)
        m, v = (np.broadcast_to(each, split.shape).reshape(x.shape) for each in (m, v))
        return norm(x, n.gamma, n.beta, m, v, n.epsilon)

    return kernel


def _ordered(order: Callable[[Array], Array], names: tuple[str, ...]) -> Kernel:
    return _with(**{name: lambda n, name=name: order(getattr(n, name)) for name in names})


def _roles(order: tuple[str, ...]) -> Kernel:
    names = ("gamma", "beta", "mean", "variance")
    return _with(
        **{name: lambda n, source=source: getattr(n, source) for name, source in zip(names, order, strict=True)}
    )


def _after(function: Callable[[Array], Array]) -> Kernel:
    return lambda x, n: np.asarray(function(right(x, n)), np.float32)


def bfloat16(values: Array) -> Array:
    """Round to bfloat16 through decimal arithmetic on the exponent: 8 significant bits."""
    fraction, exponent = np.frexp(np.asarray(values, np.float64))
    return np.asarray(np.ldexp(np.rint(fraction * 256) / 256, exponent), np.float32)


def float16(values: Array) -> Array:
    return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def _throughout_float16(x: Array, n: Numbers) -> Array:
    g, b, m, v = (np.float16(each) for each in (n.gamma, n.beta, n.mean, n.variance))
    with np.errstate(all="ignore"):
        y = (np.float16(x) - m) * (np.float16(1) / np.sqrt(v + np.float16(n.epsilon)) * g) + b
    return np.asarray(y, np.float32)


def _throughout_bfloat16(x: Array, n: Numbers) -> Array:
    r = bfloat16
    g, b, m, v = (r(each) for each in (n.gamma, n.beta, n.mean, n.variance))
    slope = r(r(1 / r(np.sqrt(r(v + r(np.array(n.epsilon, np.float32)))))) * g)
    return bfloat16(r(r(r(x) - m) * slope) + b)


def _folded(narrow: Callable[[Array], Array], *, apart: bool = False) -> Kernel:
    def kernel(x: Array, n: Numbers) -> Array:
        exact = n.gamma / np.sqrt(n.variance + np.float32(n.epsilon))
        scale = narrow(exact)
        shift = narrow(n.beta - n.mean * (exact if apart else scale))
        return np.asarray(x * scale + shift)

    return kernel


def _quantised(x: Array, n: Numbers) -> Array:
    y = right(x, n)
    step = np.float32((y.max() - y.min()) / 255)
    return np.asarray(np.rint((y - y.min()) / step).astype(np.int32) * step + y.min(), np.float32)


def _sigmoid(y: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-y)))


def _kernels() -> dict[str, Kernel]:
    every = ("gamma", "beta", "mean", "variance")
    found: dict[str, Kernel] = {
        "epsilon-outside": lambda x, n: divided(x, n, np.sqrt(n.variance) + np.float32(n.epsilon)),
        "epsilon-outside=1e-06": lambda x, n: divided(x, n, np.sqrt(n.variance) + np.float32(1e-6)),
        "epsilon-twice": lambda x, n: divided(
            x, n, np.sqrt(n.variance + np.float32(n.epsilon)) + np.float32(n.epsilon)
        ),
        "epsilon-doubled": lambda x, n: divided(
            x, n, np.sqrt(n.variance + np.float32(n.epsilon) + np.float32(n.epsilon))
        ),
        "epsilon-as-floor": lambda x, n: divided(x, n, np.sqrt(np.maximum(n.variance, np.float32(n.epsilon)))),
        "divided-by-variance": lambda x, n: divided(x, n, n.variance + np.float32(n.epsilon)),
        "variance-ignored": lambda x, n: divided(x, n, 1),
        "inverse-deviation": lambda x, n: divided(x, n, 1 / n.variance),
        "multiplied-by-deviation": lambda x, n: divided(x, n, 1 / np.sqrt(n.variance + np.float32(n.epsilon))),
        "multiplied-by-variance": lambda x, n: divided(x, n, 1 / (n.variance + np.float32(n.epsilon))),
        "variance-squared": _with(variance=lambda n: n.variance**2),
        "variance-rooted": _with(variance=lambda n: np.sqrt(n.variance)),
        "variance-inverted": _with(variance=lambda n: 1 / n.variance),
        "variance-exponential": _with(variance=lambda n: np.exp(n.variance)),
        "variance-log10": _with(variance=lambda n: np.float32(10) ** (2 * n.variance)),
        "gamma-ignored": _with(gamma=lambda n: 1),
        "gamma-plus-one": _with(gamma=lambda n: 1 + n.gamma),
        "gamma-absolute": _with(gamma=lambda n: np.abs(n.gamma)),
        "gamma-absolute-epsilon": _with(gamma=lambda n: np.abs(n.gamma) + np.float32(n.epsilon)),
        "gamma-exponential": _with(gamma=lambda n: np.exp(n.gamma)),
        "gamma-clipped": _with(gamma=lambda n: np.maximum(n.gamma, 0)),
        "gamma-squared": _with(gamma=lambda n: n.gamma**2),
        "gamma-and-beta-ignored": _with(gamma=lambda n: 1, beta=lambda n: 0),
        "beta-ignored": _with(beta=lambda n: 0),
        "beta-subtracted": _with(beta=lambda n: -n.beta),
        "beta-before-gamma": _with(beta=lambda n: n.beta * n.gamma),
        "beta-twice": _with(beta=lambda n: 2 * n.beta),
        "mean-ignored": _with(mean=lambda n: 0),
        "mean-added": _with(mean=lambda n: -n.mean),
        "initial-statistics": _with(mean=lambda n: 0, variance=lambda n: 1),
        "statistics-ignored": lambda x, n: x * n.gamma + n.beta,
        "batch-statistics": _statistics((0, 1, 2)),
        "batch-statistics-unbiased": _statistics((0, 1, 2), ddof=1),
        "batch-mean": _statistics((0, 1, 2), variance=False),
        "batch-variance": _statistics((0, 1, 2), mean=False),
        "instance-statistics": _statistics((1, 2)),
        "instance-statistics-unbiased": _statistics((1, 2), ddof=1),
        "position-statistics": _statistics((3,)),
        "position-statistics-unbiased": _statistics((3,), ddof=1),
        "layer-statistics": _statistics((1, 2, 3)),
        "layer-statistics-unbiased": _statistics((1, 2, 3), ddof=1),
        "group=2": _groups(2),
        "group=4": _groups(4),
        "group=2-unbiased": _groups(2, 1),
        "group=4-unbiased": _groups(4, 1),
        "skipped": lambda x, n: x,
        "applied-twice": lambda x, n: right(right(x, n), n),
        "relu-after": _after(lambda y: np.maximum(y, 0)),
        "relu6-after": _after(lambda y: np.clip(y, 0, 6)),
        "sigmoid-after": _after(_sigmoid),
        "tanh-after": _after(np.tanh),
        "silu-after": _after(lambda y: y * _sigmoid(y)),
        "hard-swish-after": _after(lambda y: y * np.clip(y + 3, 0, 6) / np.float32(6)),
        "elu-after": _after(lambda y: np.where(y > 0, y, np.expm1(y))),
        "relu-before": lambda x, n: right(np.maximum(x, 0), n),
        "relu6-before": lambda x, n: right(np.clip(x, 0, 6), n),
        "parameters=float16": _with(**{name: lambda n, name=name: float16(getattr(n, name)) for name in every}),
        "parameters=bfloat16": _with(**{name: lambda n, name=name: bfloat16(getattr(n, name)) for name in every}),
        "input=float16": lambda x, n: right(float16(x), n),
        "input=bfloat16": lambda x, n: right(bfloat16(x), n),
        "output=float16": lambda x, n: float16(right(x, n)),
        "output=bfloat16": lambda x, n: bfloat16(right(x, n)),
        "folded=float16": _folded(float16),
        "folded=bfloat16": _folded(bfloat16),
        "folded-apart=float16": _folded(float16, apart=True),
        "folded-apart=bfloat16": _folded(bfloat16, apart=True),
        "arithmetic=float16": _throughout_float16,
        "arithmetic=bfloat16": _throughout_bfloat16,
        "output=int8": _quantised,
        "layout=channels-first": _channels_first,
        "channels=shuffled 3": _ordered(lambda a: a.reshape(3, -1).T.ravel(), every),
        "channels=permuted": _ordered(lambda a: a[[1, 0, 2, 4, 3, *range(5, a.size)]], every),
        "channels=rolled +4": _ordered(lambda a: np.roll(a, -4), every),
        "epsilon=0.0005": _with(epsilon=lambda n: 5e-4),
        "epsilon-outside=0.0005": lambda x, n: divided(x, n, np.sqrt(n.variance) + np.float32(5e-4)),
        "variance-factor=1.06667": _with(variance=lambda n: n.variance * np.float32(16 / 15)),
        "statistics-factor=999.5": _with(
            mean=lambda n: n.mean * np.float32(999.5), variance=lambda n: n.variance * np.float32(999.5)
        ),
        "gamma-factor=0.5": _with(gamma=lambda n: n.gamma / 2),
        "mean-factor=0.3": _with(mean=lambda n: n.mean * np.float32(0.3)),
        "beta-factor=0.3": _with(beta=lambda n: n.beta * np.float32(0.3)),
        "output-factor=0.25": lambda x, n: right(x, n) / 4,
        "input-factor=255": lambda x, n: right(x * 255, n),
    }
    for value in (1e-5, 0.0, 1e-6, 1e-4, 1e-2, 2e-5, 1.001e-5, 1e-7, 1e-8, 1e-12):
        found[f"epsilon={value:g}"] = _with(epsilon=lambda n, value=value: value)  # type: ignore[misc]
    for slope in (0.01, 0.1, 0.2, 0.3):
        found[f"leaky-relu={slope:g}-after"] = _after(
            lambda y, slope=slope: np.where(y > 0, y, np.float32(slope) * y)  # type: ignore[misc]
        )
    for order in permutations(every):
        if order != every:
            found[f"roles={','.join(order)}"] = _roles(order)
    for prefix, names in (("", every), ("statistics-", every[2:]), ("affine-", every[:2])):
        found[f"{prefix}channels=reversed"] = _ordered(lambda a: a[::-1], names)
        found[f"{prefix}channels=rolled +1"] = _ordered(lambda a: np.roll(a, -1), names)
        found[f"{prefix}channels=rolled -1"] = _ordered(lambda a: np.roll(a, 1), names)
    return found


def _channels_first(x: Array, n: Numbers) -> Array:
    batch, height, width, channels = x.shape
    as_first = x.reshape(batch, channels, height, width)
    g, b, m, v = (each.reshape(-1, 1, 1) for each in (n.gamma, n.beta, n.mean, n.variance))
    return norm(as_first, g, b, m, v, n.epsilon).reshape(x.shape)


KERNELS = _kernels()
