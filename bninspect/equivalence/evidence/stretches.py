"""What lies between the operations of an export: the model is run again, fed with the export's own values on the way.

Where both have the same value, what goes into a kernel and what comes out of it, the model gets the export's, so that
no error adds up: each stretch of the model starts from what the export had, is computed by the model's own framework
with the model's own strides, padding, pooling, activations and order of axes, and is held against what the export had
at its end. What is left is the rounding of the few operations of one stretch: FLOOR, and what means of numbers that
cancel may lose (sums.py). Where it is more, it is measured on this model: what went in is moved by one rounding, K
times, and the largest change seen is what rounding does there (stochastic arithmetic, as Vignes' CADNA has it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from bninspect.equivalence import measuring, tensors
from bninspect.equivalence.evidence.hidden import Hidden, Lost, hidden
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.evidence.nudges import largest_changes, with_moves
from bninspect.equivalence.evidence.own_rounding import own_rounding
from bninspect.equivalence.evidence.replay import FLOOR, MARGIN, Comparing, Given, Stretch
from bninspect.equivalence.evidence.slack import Slack
from bninspect.equivalence.evidence.sums import Sums
from bninspect.equivalence.evidence.wires import Wire, arrange
from bninspect.equivalence.folding import U
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array, graph
from bninspect.records.graph import Network, Node

_KINDS = 4
"""Different whole numbers that are kept of what was seen."""


def compare(
    found: Sequence[Wire],
    free: Mapping[str, Array],
    how: Comparing,
    lost: Iterable[Lost] = (),
    before: Mapping[Node, Hidden] = MappingProxyType({}),
) -> tuple[tuple[Stretch, ...], Mapping[Node, Hidden]]:
    """Return how the end of each stretch compares, and what of some operations shows in none.

    Args:
        found: the values that both have, and the outputs.
        free: what the source computed of them on its own; of each it says the shape.
        how: everything else.
        lost: operations of the source whose numbers the export does not hold as they are.
        before: what other input hides of them.
    """
    arranged: dict[int, Array] = {}
    failed: list[Stretch] = []
    for wire in found:
        if wire.label not in free or wire.value not in how.values:
            failed.append(Stretch(wire, why="it cannot be seen in both"))
            continue
        moved = arrange(wire, how.values[wire.value], free[wire.label])
        if moved is None:
            failed.append(_of_another_shape(wire, how, free[wire.label]))
        else:
            arranged[id(wire)] = moved
    kept = [wire for wire in found if id(wire) in arranged]
    given = _forced(kept, arranged, free) if how.forces else Given()
    labels = [wire.label for wire in kept]
    computed = how.replay(how.data, given.arrays, labels)
    known = {wire.value for wire in kept if wire.label in given.arrays}
    slack = Slack(how.network, how.stored, known, {wire.value for wire in kept if _recomputed(wire, how) is not None})
    judged = [_judged(wire, arranged[id(wire)], given, computed, slack, how) for wire in kept]
    if _off(judged):
        sums = Sums(how.network, how.stored, known)
        added = {wire.label: sums.arriving(wire.value) for wire in kept if wire.end != "y"}
        judged = [_judged(wire, arranged[id(wire)], given, computed, slack, how, added) for wire in kept]
    if _off(judged):
        moved_by = largest_changes(kept, given.arrays, computed, how)
        added = {wire.label: added.get(wire.label, 0.0) + MARGIN * moved_by.get(wire.label, 0.0) for wire in kept}
        judged = [_judged(wire, arranged[id(wire)], given, computed, slack, how, added) for wire in kept]
    off = _off(judged)
    own = own_rounding(off, given, how) if off else {}
    if own:
        judged = [_judged(wire, arranged[id(wire)], given, computed, slack, how, added, own) for wire in kept]
    stretches = (*failed, *with_moves(judged, given, computed, how))
    return stretches, hidden(lost, stretches, given, how, before)


def _off(judged: Iterable[Stretch]) -> list[str]:
    """Return the ends that do not agree, as the source calls them."""
    return [one.wire.label for one in judged if one.compared is not None and not one.compared.agrees]


def _of_another_shape(wire: Wire, how: Comparing, own: Array) -> Stretch:
    values = how.values[wire.value]
    what = "output" if wire.end != "x" else "input"
    why = f"its {what} has shape {values.shape} in the export and {own.shape} in the source"
    # What goes in may be what a padding or a reshape was merged into. Steps of time may stand before the samples.
    cropped = values.size > own.size and _is_cropped(wire.value, how.network)
    return Stretch(wire, why=why, wrong=wire.end != "x" and values.size != own.size and not cropped)


_CROPPING = ("slice", "strided slice", "stridedslice", "crop", "narrow")


def _is_cropped(value: str, network: Network) -> bool:
    """Return whether all that reads a value takes a part of it, as of a transposed convolution without its padding."""
    readers = network.consumers().get(value, ())
    return bool(readers) and all(node.operation.replace("_", " ") in _CROPPING for node in readers)


def _forced(kept: Sequence[Wire], arranged: Mapping[int, Array], free: Mapping[str, Array]) -> Given:
    """Return the values that the source is given: what goes into a kernel, else what came out of the one before it."""
    floats = [wire for wire in kept if wire.end != "output" and arranged[id(wire)].dtype.kind == "f"]
    arrays: dict[str, Array] = {}
    values: dict[str, str] = {}
    made: dict[str, Array] = {}
    for end in ("x", "y"):
        for wire in floats:
            if wire.end != end:
                continue
            array = arranged[id(wire)].astype(free[wire.label].dtype, copy=False)
            if end == "y":
                made.setdefault(wire.label, array)
            if wire.label not in arrays:
                arrays[wire.label], values[wire.label] = array, wire.value
    return Given(arrays, values, made)


def _judged(
    wire: Wire,
    values: Array,
    given: Given,
    computed: Mapping[str, Array],
    slack: Slack,
    how: Comparing,
    added: Mapping[str, float] = MappingProxyType({}),
    rounded: Mapping[str, float] = MappingProxyType({}),
) -> Stretch:
    """Compare the end of one stretch; `added` and `rounded` say what rounding does to each value of the source."""
    own = computed[wire.label]
    proof = _recomputed(wire, how)
    mine = arrange(wire, _turned(proof.value, wire), own) if proof is not None and proof.value is not None else None
    if proof is not None and mine is not None:
        # From the same input: the model's framework and our own arithmetic with the export's strides and padding.
        values, spare = mine, 2 * proof.bound + _entering(wire.place, given, slack)
    else:
        # What came out of a kernel would only be compared with itself.
        own = given.made[wire.label] if wire.label in given.made and wire.end != "y" else own
        spare = slack.arriving(wire.value)
    if not np.isfinite(rounded.get(wire.label, 0.0)):
        why = "the model computes in half precision, and it is not known what all before it makes of rounding"
        return Stretch(wire, why=why, given=wire.label in given.arrays)
    spare += rounded.get(wire.label, 0.0)
    if not np.isfinite(spare):
        why = f"before it lies '{slack.unknown}', whose effect on rounding is not known"
        return Stretch(wire, why=why, given=wire.label in given.arrays)
    if own.dtype.kind != "f" or values.dtype.kind != "f":
        same = own.shape == values.shape and bool((own == values).all())
        compared = measuring.measured(
            values.astype(np.float64),
            own.astype(np.float64),
            np.zeros(()),
            observed=wire.end,
            reference=measuring.SOURCE,
        )
        kinds = frozenset(np.unique(own)[:_KINDS].astype(np.float64).tolist())
        return Stretch(wire, compared, wrong=not same, kinds=kinds)
    quantised = tensors.grid(wire.value, how.network)
    wide = own.astype(np.float64)
    if quantised is not None and spare and mine is None:
        wide = tensors.cut_off(wide, quantised, wire.axis) if wide.ndim else wide
    unit = max(tensors.unit(own), U)
    with np.errstate(all="ignore"):
        largest = float(np.nanmax(np.abs(values), initial=0.0))
    if wire.end != "y" and _saturates(how.network, wire.value):
        # Kernels cut such functions off, ONNX Runtime sigmoid at -18: they are right to a rounding of 1.
        largest = max(largest, 1.0)
    allowed = FLOOR * unit * largest + spare + added.get(wire.label, 0.0) + 1e-37
    mask = np.isnan(values) & np.isfinite(wide) if mine is not None and proof is not None and proof.share < 1 else None
    if mask is not None:
        wide, values = np.where(mask, 0.0, wide), np.where(mask, 0.0, values)
    compared = (
        measuring.measured(
            values,
            wide,
            np.full((1,) * wide.ndim, allowed),
            observed=wire.end,
            reference=measuring.SOURCE,
            axis=max(wide.ndim - 1, 0),
        )
        if wide.ndim
        else measuring.measured(
            values.reshape(1), wide.reshape(1), np.full(1, allowed), observed=wire.end, reference=measuring.SOURCE
        )
    )
    exact, forced = spare == 0.0 or wire.end == "y", wire.label in given.arrays
    if not compared.agrees and _is_cut(wire, given, slack, whole=mine is None):
        why = "values on the way to it are cut off at the ends of their type: give it data of its kind with --input"
        return Stretch(wire, why=why, moves=False, given=forced)
    return Stretch(wire, compared, wrong=not compared.agrees, exact=exact, given=forced)


def _is_cut(wire: Wire, given: Given, slack: Slack, *, whole: bool) -> bool:
    """Return whether a value was cut off on the way from what the source was given."""
    if whole:
        return slack.is_cut(wire.value)
    return wire.place is not None and not given.enters(wire.place) and slack.is_cut(wire.place.node.inputs[0])


def _recomputed(wire: Wire, how: Comparing) -> Proof | None:
    """Return the proof of what came out of a kernel, if it was recomputed and the model can start from what went in."""
    proof = how.proofs.get(id(wire.place.node)) if wire.place is not None and wire.end == "y" and how.forces else None
    return proof if proof is not None and proof.value is not None else None


_SATURATING = ("sigmoid", "logistic", "softmax", "tanh", "hardsigmoid", "hard_sigmoid")


def _saturates(network: Network, value: str) -> bool:
    maker = next((node for node in network.nodes if value in node.outputs), None)
    if maker is not None and maker.operation in graph.PASSING:
        maker = graph.origin(value, network.producers())
    return maker is not None and maker.operation in _SATURATING


def _entering(place: Place | None, given: Given, slack: Slack) -> float:
    """Return what the rounding of an input that the source was not given as the export had it makes of the output."""
    if place is None or place.node.kernel is None or given.enters(place):
        return 0.0
    x = place.node.inputs[0]
    before = slack.arriving(x) if place.x in given.arrays else slack.of(x)
    return before * float(np.abs(place.expected.weights).sum(axis=(0, 1)).max()) if before else 0.0


def _turned(values: Array, wire: Wire) -> Array:
    """Return what was recomputed as the export's own value stands, the transposition behind it included."""
    node = wire.place.node if wire.place is not None else None
    return values.transpose(node.order) if node is not None and len(node.order) == values.ndim else values
