"""A stored batch norm as an operation of a network, with what it multiplies and adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

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


def norm_kernel_in_steps(kernel: Kernel, layer: BatchNorm, steps: Mapping[str, float]) -> Kernel:
    """Return a kernel of `norm_kernel` whose gamma or beta stand in the file as integers, of these steps.

    The slope gamma/root is off as gamma is, over the root; the shift beta - mean*gamma/root as beta is, and by the mean
    times that.
    """
    parameters = Parameters.of(layer)
    with np.errstate(all="ignore"):
        slope = steps.get("gamma", 0.0) / parameters.root.reshape(-1)
        shift = steps.get("beta", 0.0) + np.abs(parameters.mean.reshape(-1)) * slope
    widened = {name: np.broadcast_to(one, (kernel.outputs,)) for name, one in (("slope", slope), ("shift", shift))}
    return replace(kernel, weight_step=widened["slope"], bias_step=widened["shift"])
