"""Kernels whose bias has a number in it that the model adds behind them: the 3 of `relu6(x + 3) / 6`, as of TensorFlow.

Which number that is no graph of a model says; the model does, when it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bninspect.equivalence import folding, tensors
from bninspect.equivalence.pairing.fits import holds, holds_weights, same_shape
from bninspect.equivalence.pairing.places import Pairing, Place, in_order
from bninspect.records import Array
from bninspect.records.graph import Network, Node, kernel_of

Values = Callable[[Sequence[str]], Mapping[str, Array]]
"""Runs the source and returns values on the way, by label."""


def completed(paired: Pairing, source: Network, export: Network, values: Values) -> Pairing:
    """Return a pairing with the places of the kernels that took in a number which the model adds.

    Args:
        paired: of the two.
        source: what the model computes.
        export: what the export computes.
        values: shows what the model adds; not asked unless a bias alone is off.
    """
    found = list(_candidates(paired, source))
    if not found:
        return paired
    labels = dict.fromkeys(name for operation, _, behind in found for name in (operation.outputs[0], behind))
    seen = values(list(labels))
    places: list[Place] = []
    for operation, node, behind in found:
        added = _difference(seen.get(operation.outputs[0]), seen.get(behind))
        if added is None or any(node is one.node or operation is one.operation for one in places):
            continue
        plain = folding.plain(kernel_of(operation))
        bias = plain.bias + added
        bound = plain.bias_bound + 4 * folding.U * (np.abs(plain.bias) + abs(added))
        expected = replace(plain, bias=bias, bias_bound=bound)
        if holds(node, expected):
            places.append(Place(node, expected, operation, added=behind))
    return replace(
        paired,
        kernels=tuple(one for one in paired.kernels if all(one is not place.node for place in places)),
        lost=tuple(one for one in paired.lost if all(one is not place.operation for place in places)),
        places=tuple(in_order((*paired.places, *places), export)),
    )


def _candidates(paired: Pairing, source: Network) -> Iterator[tuple[Node, Node, str]]:
    """Yield lost operations with those of the export that may hold them, and what the source makes of their result."""
    consumers = source.consumers()
    for operation in paired.lost:
        behind = consumers.get(operation.outputs[0], ())
        if len(behind) != 1 or len(behind[0].inputs) != 1 or behind[0].kernel is not None or behind[0].layer:
            continue
        for node in paired.kernels:
            if same_shape(operation, node) and holds_weights(node, folding.plain(kernel_of(operation))):
                yield operation, node, behind[0].outputs[0]


def _difference(before: Array | None, after: Array | None) -> float | None:
    """Return the number that was added to every element, None if that is not one."""
    if before is None or after is None or before.shape != after.shape or before.dtype.kind != "f" or not before.size:
        return None
    with np.errstate(all="ignore"):
        off = after.astype(np.float64) - before
        added = float(np.median(off))
        room = 2 * tensors.unit(before) * float(max(np.abs(before).max(), np.abs(after).max()))
        return added if bool((np.abs(off - added) <= room).all()) else None
