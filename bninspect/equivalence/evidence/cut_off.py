"""What a quantised export cuts off at the ends of its ranges, of which no data of its calibration tells whether it may.

A range is what a value of integers can stand for, or what floats are rounded to on the way, whatever the format calls
that. Cutting off is not an error of arithmetic: the export computes what its file says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array
from bninspect.records.graph import PASSING, Network


@dataclass(frozen=True)
class CutOff:
    """How much of a value lies beyond its range."""

    name: str
    """Of the operation, for people."""
    share: float
    each: int
    """How many numbers a sample has."""
    needs: tuple[float, float]
    """The range that would hold all of them."""


def seen(
    export: Network, stored: Mapping[str, Array], places: tuple[Place, ...], proofs: Mapping[int, Proof]
) -> Iterator[tuple[str, CutOff]]:
    """Yield the values of an export that have a range, by name, each with what of it is cut off.

    Args:
        export: the network.
        stored: what its runtime had at each value.
        places: its operations that were recomputed.
        proofs: what that says of each.
    """
    for node in export.nodes:
        grid = export.quantised.get(node.outputs[0]) if node.outputs else None
        before = stored.get(node.inputs[0]) if node.inputs and node.operation in PASSING else None
        if grid is None or before is None or not before.size or before.dtype.kind != "f":
            continue
        wide = before.astype(np.float64)
        lost = tensors.cut_off(wide, grid, grid.axis % wide.ndim if wide.ndim else 0) - wide
        least = 0.0
        if not tensors.reach(grid)[0].any():
            lost = np.minimum(lost, 0.0)  # a range that begins at zero is a relu that went into it
        else:
            least = float(wide.min())
        share = float(np.mean(np.abs(lost) > tensors.largest_step(grid) / 2))
        yield node.outputs[0], CutOff(node.name, share, _each(wide), (least, float(wide.max())))
    for place in places:
        name, proof = place.node.outputs[0], proofs[id(place.node)]
        if name in export.quantised and proof.compared is not None:
            yield name, CutOff(place.node.name, proof.cut, _each(stored[name]), proof.needs)


def _each(values: Array) -> int:
    return values.size // values.shape[0] if values.ndim > 1 else values.size
