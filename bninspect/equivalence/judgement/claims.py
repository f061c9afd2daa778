"""The steps that a quantised export claims, held against what its numbers need: a coarse step would excuse anything.

Weights are known, so that the step that they need is: the largest of them over the 127 places of 8 bits. What flows is
not known, as neither file holds the data that an export was calibrated on. What a batch norm returns is: on the data of
the training the mean of a channel is beta, and its spread gamma. A range that is far wider than that, and than all that
was seen, was made for other data, and so was one that cuts off much of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.cut_off import CutOff
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.pairing.places import Place
from bninspect.records import graph
from bninspect.records.graph import ActivationLimits, Network, Node
from bninspect.safe_text import printable

COARSE = 4.0
"""Times the step that weights need: whoever keeps to 7 bits (`reduce_range` of ONNX Runtime) has twice that, and who
wants a power of two up to twice as much again."""
WIDE = 3.0
"""Times the range that is needed: five times is what a forgotten division of the calibration data makes of it."""
SPREADS = 6.0
"""Spreads of a channel that a range has to hold."""
GIVEN_UP = 0.01
"""Part of what a batch norm returns, as it says, that may be cut off: who clips to lose less in the middle, by
percentiles or entropy, gives up 0.01 to 1 %. Of 48 right ranges that were calibrated on data like those of the training
none gives up 0.005 %, four that were made five times too small 1.03 to 3.4 %."""
CUT = 0.05
"""Part that may be cut off as it was seen: statistics may be of other data than the export was made for. Of 153 right
ranges of five nets at most 4.2 % (one of 24 numbers), where the batch norm gives up more than 1 % at most 3 %; of the
four above 20 to 38 %."""
_FEW = 3
"""Numbers of a sample that may be beyond a range at any rate: NNCF makes it the mean of the largest of each sample."""
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


def of_range(
    place: Place, proof: Proof, network: Network, cut: Mapping[str, CutOff], own: ActivationLimits | None = None
) -> str:
    """Return in words that the range of what an operation returns was made for other data; empty if it was not.

    Args:
        place: the operation.
        proof: what its recomputation says.
        network: what the export computes.
        cut: what was seen to be cut off.
        own: where the model cuts it off, which the range may do in its place.
    """
    norm = next((one for one in reversed(place.norms) if one is not place.front), None)
    name, cutting = _rounded(place.node, network)
    quantised = tensors.grid(name, network)
    if norm is None or norm.layer.moving_variance is None or quantised is None:
        return ""
    low, high = (float(end.max() if place else end.min()) for place, end in enumerate(tensors.reach(quantised)))
    limits = cutting or own or ActivationLimits(-math.inf if low < 0 else 0.0, math.inf)
    middle = norm.affine.beta
    spread = np.abs(norm.affine.scale) * np.sqrt(norm.layer.moving_variance.reshape(-1).astype(np.float64))
    made = (middle - SPREADS * spread).min(), (middle + SPREADS * spread).max(), *proof.needs
    needed = float(np.abs(np.clip(made, limits.low, limits.high)).max())
    claimed, range_ = max(abs(low), abs(high)), f"its range of {low:.3g} to {high:.3g}"
    # A range that ends where the activation does is the activation's.
    ends = np.isfinite(limits.high) and claimed <= limits.high * (1 + _TINY)
    if claimed > WIDE * needed and not ends:
        return f"{range_} is {claimed / needed:.3g} times what its batch norm returns: {_OTHER} needs it"
    above = _beyond(high - middle, spread) if high < limits.high * (1 - _TINY) else 0.0
    below = _beyond(middle - low, spread) if low > limits.low else 0.0
    share, seen = above + below, cut[name].share if name in cut else 0.0
    if share <= GIVEN_UP or seen <= CUT:
        return ""
    return (
        f"{range_} cuts off {100 * share:.2g} % of what its batch norm returns and {100 * seen:.2g} % of what was "
        f"seen: {_OTHER} does not"
    )


def of_data(cut: Mapping[str, CutOff]) -> str:
    """Return in words that ranges were not made for data, of which this much was cut off; empty if they may be."""
    found = [one for one in cut.values() if one.share > CUT and one.share * one.each > _FEW]
    if not found:
        return ""
    worst = max(found, key=lambda one: one.share)
    others = f", and more than {100 * CUT:g} % at {len(found) - 1} further" if len(found) > 1 else ""
    return f"{100 * worst.share:.2g} % of the numbers at {printable(worst.name)} are cut off{others}"


_OTHER = "it was calibrated on other data, or --input with data of its kind shows that it"


def _rounded(node: Node, network: Network) -> tuple[str, ActivationLimits | None]:
    """Return the value that is rounded to whole numbers, and what cuts it off before.

    It is what an operation returns, or what comes of that, where nothing but such limits is between.
    """
    consumers, name, limits = network.consumers(), node.outputs[0], node.limits
    while tensors.grid(name, network) is None:
        after = consumers.get(name, ())
        if len(after) != 1 or not after[0].outputs or not (after[0].limits or after[0].operation in graph.PASSING):
            break
        name, limits = after[0].outputs[0], after[0].limits or limits
    return name, limits


def _beyond(distance: Float64, spread: Float64) -> float:
    """Return the part of normal numbers that is further than `distance` to one side, the mean over channels."""
    with np.errstate(all="ignore"):
        ratios = np.where(spread > 0, distance / spread, np.where(distance >= 0, np.inf, -np.inf))
    return float(np.mean([math.erfc(float(one) / math.sqrt(2)) / 2 for one in ratios]))
