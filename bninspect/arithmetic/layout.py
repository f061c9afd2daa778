"""Arrays brought into the order of axes that another one has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.records import Array


def aligned(values: Array, shape: tuple[int, ...], like: Float64) -> Array | None:
    """Return `values` with their axes in the order of `shape`; None if no order of them has it.

    Of several orders the one that is nearest to `like` is taken: it is the numbers that tell NHWC from NCHW.
    """
    found = list(_orders(values, shape))
    if len(found) < 2:
        return found[0] if found else None
    with np.errstate(all="ignore"):
        return min(found, key=lambda one: float(np.nan_to_num(np.abs(one - like), nan=np.inf).sum()))


def _orders(values: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield the arrays of `shape` that come of moving one axis; those of length 1 come and go freely."""
    squeezed = values.reshape([size for size in values.shape if size != 1])
    long = tuple(size for size in shape if size != 1)
    axes = range(squeezed.ndim)
    orders = dict.fromkeys(_moved(squeezed.ndim, start, to) for start in axes for to in axes) or {(): None}
    for order in orders:
        if tuple(squeezed.shape[axis] for axis in order) == long:
            yield squeezed.transpose(order).reshape(shape)


def _moved(rank: int, one: int, to: int) -> tuple[int, ...]:
    order = [axis for axis in range(rank) if axis != one]
    return (*order[:to], one, *order[to:])
