"""Numbers of an export held against what they should be, as a Comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bninspect.arithmetic.compare import counted, merge
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.tally import Layout, Tally
from bninspect.equivalence.folding import FoldedKernel, as_stored, zero_bias
from bninspect.records import Array, Comparison, Worst
from bninspect.records.graph import Kernel

_PIECE = 1 << 15
"""Numbers that are compared at once: 256 KiB of each kind."""
WEIGHTS, BIAS, OUTPUT = "weights", "bias", "output"
FOLDED, SOURCE, RECOMPUTED = "folded", "source", "recomputed"


def measured(
    actual: Array, expected: Float64, bound: Float64, *, observed: str, reference: str, axis: int = -1
) -> Comparison:
    """Compare numbers of the same shape, each with a bound of its own; channels run along `axis`."""
    shape, axis = expected.shape, axis % expected.ndim
    tally = Tally(Layout(shape, (axis,)), "float32")
    # Pieces of whole rows of channels, which stay in the cache; with the channels elsewhere everything at once.
    width = max(1, shape[axis] if axis == expected.ndim - 1 else expected.size)
    allowed = bound.reshape(1, 1) if bound.size == 1 else np.broadcast_to(bound, shape).reshape(-1, width)
    rows = (
        expected.reshape(-1, width),
        actual.reshape(-1, width),
        np.broadcast_to(allowed, (expected.size // width, width)),
    )
    step = max(1, _PIECE // width)
    for start in range(0, len(rows[0]), step):
        wide, given, off = (np.ascontiguousarray(each[start : start + step], np.float64) for each in rows)
        tally.add(start * width, wide, given, off)
    return replace(counted(tally, observed, reference), worst=_worst(tally, shape))


def _worst(tally: Tally, shape: tuple[int, ...]) -> Worst | None:
    element = tally.worst
    if element is None:
        return None
    index = tuple(int(one) for one in np.unravel_index(element.flat, shape))
    channel = int(tally.layout.channels(np.array([element.flat]))[0])
    numbers = [one if np.isfinite(one) else None for one in (element.expected, element.actual, element.allowed)]
    return Worst(index, channel, None, *numbers)


def of_kernel(folded: FoldedKernel, export: Kernel) -> tuple[Comparison, Comparison]:
    """Compare the weights and the bias of an export's operation with what they should be."""
    should = as_stored(folded, export)
    shape = (_, inputs, outputs) = should.own.shape
    tally = Tally(Layout(shape, (2,)), "float32")
    for tap, rows, wide, bound in should.pieces():
        tally.add((tap * inputs + rows.start) * outputs, wide, export.weights[tap, rows].astype(np.float64), bound)
    weights = replace(counted(tally, WEIGHTS, FOLDED), worst=_worst(tally, shape))
    bias = measured(zero_bias(export), should.bias, should.bias_bound, observed=BIAS, reference=FOLDED)
    return weights, bias


def joined(comparisons: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """Join comparisons of the same kind, of several calls of one layer."""
    found: dict[tuple[str, str], Comparison] = {}
    for one in comparisons:
        key = (one.observed, one.reference)
        found[key] = merge(found[key], one) if key in found else one
    return tuple(found.values())
