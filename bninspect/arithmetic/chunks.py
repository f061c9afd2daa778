"""Batch normalisation, its bound and the comparison in pieces that fit the cache.

Whole activations in float64 are slow because they are moved to and from memory a dozen times: ResNet50 has 10.6
million elements at its batch-norm layers. A piece is worked on until its comparison is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bninspect.arithmetic.bounds import Allowance
from bninspect.records import Array

if TYPE_CHECKING:
    from bninspect.arithmetic.formula import Float64, Parameters
    from bninspect.arithmetic.tally import Layout, Tally

PIECE = 8192
"""Elements of a piece; each of the 8 buffers takes 64 KB."""
ROW = 1024
"""Elements from which on a row is long enough for NumPy's inner loop."""
NEIGHBOURS = 16
"""Elements of one channel in a row from which on they make a row of their own."""

Piece: TypeAlias = tuple[int, tuple[int, int], "Float64"]
"""Flat index of the first element, rows and columns, and the table of coefficients to broadcast against them."""


def tally_in_pieces(
    tally: Tally,
    layout: Layout,
    x: Array,
    y: Array,
    parameters: Parameters,
    allowed: Sequence[Allowance],
) -> None:
    """Compare y with the formula for x; the operations are those of `normalise`, `bound` and `compare`, in order."""
    if not x.size:
        return
    parts = (parameters.mean, parameters.slope, parameters.beta, *(c for each in allowed for c in each.coefficients))
    table = np.stack([layout.spread(part) for part in parts])
    flat_x, flat_y = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(y).reshape(-1)
    buffers = np.empty((8, PIECE))
    for start, shape, (mean, slope, beta, *rest) in _pieces(x.size, layout.inner, table):
        size = shape[0] * shape[1]
        wide, actual, expected, p, magnitude, bound, second, scratch = (b[:size].reshape(shape) for b in buffers)
        with np.errstate(all="ignore"):
            np.copyto(wide, flat_x[start : start + size].reshape(shape))
            np.copyto(actual, flat_y[start : start + size].reshape(shape))
            np.multiply(np.subtract(wide, mean, out=p), slope, out=p)
            np.abs(np.add(p, beta, out=expected), out=magnitude)
            np.abs(p, out=p)
            np.abs(wide, out=wide)
            Allowance(*rest[:4]).at(p, wide, magnitude, out=bound, scratch=scratch)
            for index in range(4, len(rest), 4):
                other = Allowance(*rest[index : index + 4]).at(p, wide, magnitude, out=second, scratch=scratch)
                np.maximum(bound, other, out=bound)
        tally.add(start, expected, actual, bound, scratch=(p, wide))


def _pieces(size: int, inner: int, table: Float64) -> Iterator[Piece]:
    """Cut `size` elements, each channel `inner` times in a row, into pieces of at most PIECE elements.

    Args:
        size: number of elements.
        inner: neighbours that share their coefficients.
        table: coefficients along one span, shape (coefficients, span).
    """
    span = table.shape[1]
    if inner < NEIGHBOURS or span * inner <= PIECE:
        period = span * inner
        wide = np.tile(np.repeat(table, inner, axis=1), max(1, ROW // period))[:, np.newaxis, :]
        width = wide.shape[2]
        most = max(1, PIECE // width) * width
        for start in range(0, size, most):
            rows, rest = divmod(min(most, size - start), width)
            for left in range(0, width if rows else 0, PIECE):
                block = wide[:, :, left : left + PIECE]
                yield start + left, (rows, block.shape[2]), block
            if rest:
                yield start + rows * width, (1, rest), wide[:, :, :rest]
        return
    for first in range(0, size // inner, most := max(1, PIECE // inner)):
        channel = np.arange(first, min(first + most, size // inner)) % span
        block = table[:, channel, np.newaxis]
        for left in range(0, inner, PIECE):
            yield first * inner + left, (channel.size, min(PIECE, inner - left)), block
