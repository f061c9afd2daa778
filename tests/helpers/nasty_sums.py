"""Sums of products on which rounding hurts: many decades, cancelling terms, numbers close to zero."""

from __future__ import annotations

from typing import Any

import numpy as np


def numbers(rng: np.random.Generator, shape: tuple[int, ...], decades: float = 3.0, dtype: Any = np.float32) -> Any:
    """Return numbers of both signs over 2 * `decades` powers of ten; one in twenty is zero."""
    size = 10.0 ** rng.uniform(-decades, decades, shape)
    return (size * rng.choice([-1, 1], shape) * (rng.random(shape) > 0.05)).astype(dtype)


def cancelling(x: Any, w: Any) -> Any:
    """Return x whose second half of channels undoes the first, but for a little, where w has the same halves."""
    half = x.shape[-1] // 2
    x = x.copy()
    x[..., half : 2 * half] = -x[..., :half] * (1 + 1e-3 * (np.arange(half) % 7 - 3)).astype(x.dtype)
    w[..., half : 2 * half, :] = w[..., :half, :]
    return x
