"""The steps that a quantised export claims, held against what its numbers need: a coarse step would excuse anything.

Weights are known, so that the step that they need is: the largest of them over the 127 places of 8 bits. What flows is
not known, as neither file holds the data that an export was calibrated on. What a batch norm returns is: on the data of
the training the mean of a channel is beta, and its spread gamma. A range that is far wider than that, and than all that
was seen, was made for other data, and so was one that cuts off much of it.
"""

from __future__ import annotations

import math

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.pairing.places import Place
from bninspect.records import graph
from bninspect.records.graph import ActivationLimits, Network, Node

COARSE = 4.0
"""Times the step that weights need: whoever keeps to 7 bits (`reduce_range` of ONNX Runtime) has twice that, and who
wants a power of two up to twice as much again."""
WIDE = 3.0
"""Times the range that is needed: five times is what a forgotten division of the calibration data makes of it."""
SPREADS = 6.0
"""Spreads of a channel that a range has to hold."""
CUT = 0.05
"""Part of the outputs that may be cut off, as the batch norm says and as it was seen: who clips to lose less in the
middle (percentiles, entropy) gives up 0.01 to 1 %."""
_PLACES = 127.0
_TINY = 2.0**-20
"""Channels whose weights are so much smaller than the largest need no step of their own."""


def of_weights(place: Place) -> str:
    """Return in words that the step of an operation's weights is coarser than they need; empty if it is not."""
    kernel = place.node.kernel
    if kernel is None or kernel.weight_step is None or place.node.operation == graph.BATCH_NORM:
        return ""
    largest = np.abs(place.expected.weights).max(axis=(0, 1))
    step = np.broadcast_to(np.asarray(kernel.weight_step, np.float64), largest.shape)
    if (step == step[0]).all():
        largest = np.full(largest.shape, largest.max())
    counts = largest > _TINY * largest.max()
    if not counts.any():
        return ""
    with np.errstate(all="ignore"):
        times = float((step[counts] * _PLACES / largest[counts]).max())
    if times <= COARSE:
        return ""
    return f"the step of its weights is {times:.3g} times what they need, and what is smaller does not show"


def of_range(place: Place, proof: Proof, network: Network) -> str:
    """Return in words that the range of what an operation returns was made for other data; empty if it was not."""
    norm = next((one for one in reversed(place.norms) if one is not place.front), None)
    quantised = tensors.grid(_rounded(place.node, network), network)
    if norm is None or norm.layer.moving_variance is None or quantised is None:
        return ""
    ends = tensors.reach(quantised)
    low, high = float(ends[0].min()), float(ends[1].max())
    limits = place.node.limits or ActivationLimits(-math.inf if low < 0 else 0.0, math.inf)
    middle = norm.affine.beta
    spread = np.abs(norm.affine.scale) * np.sqrt(norm.layer.moving_variance.reshape(-1).astype(np.float64))
    made = (middle - SPREADS * spread).min(), (middle + SPREADS * spread).max(), *proof.needs
    needed = float(np.abs(np.clip(made, limits.low, limits.high)).max())
    claimed, range_ = max(abs(low), abs(high)), f"its range of {low:.3g} to {high:.3g}"
    # A range that ends where the activation does is the activation's.
    own = np.isfinite(limits.high) and claimed <= limits.high * (1 + _TINY)
    if claimed > WIDE * needed and not own:
        return f"{range_} is {claimed / needed:.3g} times what its batch norm returns: {_OTHER} needs it"
    above = _beyond(high - middle, spread) if high < limits.high * (1 - _TINY) else 0.0
    below = _beyond(middle - low, spread) if low > limits.low else 0.0
    share = min(above + below, proof.cut)
    return (
        f"{range_} cuts off {100 * share:.2g} % of what its batch norm returns: {_OTHER} does not"
        if share > CUT
        else ""
    )


_OTHER = "it was calibrated on other data, or --input with data of its kind shows that it"


def _rounded(node: Node, network: Network) -> str:
    """Return the value that is rounded to whole numbers: what an operation returns, or what alone reads that."""
    name = node.outputs[0]
    after = graph.readers(name, network.consumers())
    if tensors.grid(name, network) is None and len(after) == 1 and after[0].outputs:
        return after[0].outputs[0]
    return name


def _beyond(distance: Float64, spread: Float64) -> float:
    """Return the part of normal numbers that is further than `distance` to one side, the mean over channels."""
    with np.errstate(all="ignore"):
        ratios = np.where(spread > 0, distance / spread, np.where(distance >= 0, np.inf, -np.inf))
    return float(np.mean([math.erfc(float(one) / math.sqrt(2)) / 2 for one in ratios]))
