"""A batch norm whose numbers are right, in a place where they compute something else."""

from __future__ import annotations

from bninspect.equivalence.pairing.fits import is_map
from bninspect.equivalence.pairing.places import Match, Pairing
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Cause, graph
from bninspect.records.graph import Network, Node


def broken(match: Match, pairing: Pairing, export: Network) -> Cause | None:
    """Return what is wrong with a batch norm whose numbers are right: it stands where it must not."""
    norm, node = match.norm, match.node
    if not node.layer and not match.forward:
        if norm.obstacle == "activation":
            sentence = "it was folded into the operation before it across an activation, which comes between them"
            return Cause("folded-across-activation", sentence, 0.0)
        if norm.obstacle == "consumer" and norm.kernel not in pairing.plain:
            sentence = "it was folded into an operation whose result is also used elsewhere, without the batch norm"
            return Cause("folded-past-second-consumer", sentence, 0.0)
    if match.forward and _shifts_border(norm):
        sentence = "it was folded into the padded convolution after it: that pads with zeros, not with its shift"
        return Cause("padding-border", sentence, 0.0)
    again = _again(match, pairing, export)
    if again is not None:
        return Cause("applied-again", f"it was folded, and is applied again by {again.name}", 0.0)
    return None


def other_axis(norm: SourceNorm, node: Node) -> Cause | None:
    """Return that a batch norm whose output is wrong runs along another axis in the export; None if it does not."""
    call = norm.call.geometry
    kernel = norm.kernel.geometry if norm.kernel is not None and not node.layer else node.geometry
    if call is None or kernel is None or call.channel_axis == kernel.channel_axis:
        return None
    if call.channel_axis >= 0 or kernel.channel_axis >= 0:  # counted from the front, of ranks that are not known here
        return None
    sentence = f"it runs along axis {kernel.channel_axis} in the export and along axis {call.channel_axis} in the model"
    return Cause("wrong-axis", sentence, 0.0)


def _shifts_border(norm: SourceNorm) -> bool:
    follower = norm.follower
    wide = follower is not None and follower.kernel is not None and follower.kernel.weights.shape[0] > 1
    return wide and follower is not None and follower.padded and bool((norm.affine.shift != 0).any())


def _again(match: Match, pairing: Pairing, export: Network) -> Node | None:
    if match.node.layer:
        return None
    producers = export.producers()
    for node in pairing.pairs:
        if is_map(node, match.norm) and graph.origin(node.inputs[0], producers) is match.node:
            return node
    return None
