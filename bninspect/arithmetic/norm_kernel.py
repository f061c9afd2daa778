"""A stored batch norm as an operation of a network, with what it multiplies and adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bninspect.arithmetic.bounds import PRECISIONS
from bninspect.arithmetic.formula import Parameters
from bninspect.errors import BninspectError
from bninspect.records import BatchNorm, Statistics
from bninspect.records.graph import BATCH_NORM, Kernel, Network, Node


def norm_kernel(layer: BatchNorm) -> Kernel | None:
    """Return what a stored batch norm does to each channel, as an operation of one tap and one input per output.

    None where it normalises by other than its stored statistics, or the file does not hold all of it.
    """
    if layer.statistics not in {Statistics.MOVING, Statistics.FOLDED}:
        return None
    try:
        parameters = Parameters.of(layer)
    except BninspectError:
        return None
    scale, shift = parameters.slope.reshape(1, 1, -1), parameters.intercept.reshape(-1)
    # What stands in the file was rounded to its type; of several types the coarsest counts.
    known = [name for name in layer.dtype.split("+") if name in PRECISIONS]
    coarsest = max(known, key=lambda name: PRECISIONS[name].unit, default="float32")
    return Kernel(
        scale, shift, scale.size, coarsest if PRECISIONS[coarsest].unit > PRECISIONS["float32"].unit else "float32"
    )


def with_norms(network: Network, layers: Iterable[BatchNorm]) -> Network:
    """Return a network whose batch norms hold what the file says of their layers."""
    stored = {layer.name: layer for layer in layers}
    return replace(network, nodes=tuple(_of_file(node, stored.get(node.layer)) for node in network.nodes))


def _of_file(node: Node, layer: BatchNorm | None) -> Node:
    if node.operation != BATCH_NORM or layer is None:
        return node
    return replace(node, kernel=norm_kernel(layer), norm=layer)
