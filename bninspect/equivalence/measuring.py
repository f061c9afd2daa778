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

WEIGHTS, BIAS, OUTPUT = "weights", "bias", "output"
FOLDED, SOURCE, RECOMPUTED = "folded", "source", "recomputed"


def measured(
    actual: Array, expected: Float64, bound: Float64, *, observed: str, reference: str, axis: int = -1
) -> Comparison:
    """Compare numbers of the same shape, each with a bound of its own; channels run along `axis`."""
    layout = Layout(expected.shape, (axis % expected.ndim,))
    tally = Tally(layout, "float32")
    allowed = np.broadcast_to(bound, expected.shape)
    wide = [np.ascontiguousarray(each, np.float64).reshape(1, -1) for each in (expected, actual, allowed)]
    tally.add(0, wide[0], wide[1], wide[2])
    return replace(counted(tally, observed, reference), worst=_worst(tally, expected.shape))


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
    wide = should.weights
    weights = measured(export.weights, wide, should.bound_of(wide), observed=WEIGHTS, reference=FOLDED)
    bias = measured(zero_bias(export), should.bias, should.bias_bound, observed=BIAS, reference=FOLDED)
    return weights, bias


def joined(comparisons: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """Join comparisons of the same kind, of several calls of one layer."""
    found: dict[tuple[str, str], Comparison] = {}
    for one in comparisons:
        key = (one.observed, one.reference)
        found[key] = merge(found[key], one) if key in found else one
    return tuple(found.values())
