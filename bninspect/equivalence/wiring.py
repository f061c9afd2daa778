"""What lies between the operations of an export: the model is run again, fed with the export's own values on the way.

Where both have the same value, what goes into a kernel and what comes out of it, the model gets the export's, so that
no error adds up: each stretch of the model starts from what the export had, is computed by the model's own framework
with the model's own strides, padding, pooling, activations and order of axes, and is held against what the export had
at its end. What is left is the rounding of the few operations of one stretch. Where that is more than FLOOR it is
measured on this model: what went in is moved by one rounding, K times, and the largest change seen is what rounding
does there (stochastic arithmetic, as Vignes' CADNA has it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from bninspect.equivalence import measuring, tensors
from bninspect.equivalence.folding import U
from bninspect.equivalence.local import Proof
from bninspect.equivalence.pairing import Place
from bninspect.equivalence.slack import Slack
from bninspect.records import Array, Comparison, graph
from bninspect.records.graph import Network, Node

Replay: TypeAlias = Callable[[Sequence[Array] | None, Mapping[str, Array], Iterable[str]], Mapping[str, Array]]
"""Runs the source on input in its order, some values given; returns the wanted ones as it computed them."""

FLOOR = 32.0
"""Roundings of its largest element that a value may be off behind the few operations between two kernels."""
RUNS = 8
"""Runs with values moved by one rounding."""
MARGIN = 8.0
"""How many times the largest change of those runs a right export may be off."""
_KINDS = 4
"""Different whole numbers that are kept of what was seen."""
_NUDGE = 0.05
"""Part of themselves by which values are moved to see whether what is behind depends on them at all."""
_TURN = 2.0
"""The same for values on the way that did not move: some change their sign."""


@dataclass(frozen=True, eq=False)
class Wire:
    """A value that a source and its export have in common."""

    label: str
    """What the source calls it."""
    value: str
    """What the export calls it."""
    end: str
    """`x`, what goes into a place; `y`, what comes out of it; `output` of the model."""
    place: Place | None = None
    axis: int = -1
    """Where its channels are in the source."""
    target: int = -1
    """Where they are in the export."""
    together: int = 1
    """Axes of the operation, channels included."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """How the end of one stretch compares."""

    wire: Wire
    compared: Comparison | None = None
    why: str = ""
    """Why it was not compared, or what is wrong with it."""
    wrong: bool = False
    exact: bool = False
    """Whether rounding to integers or float16 on the way allowed for nothing."""
    moves: bool = True
    """Whether it depends visibly on what went in: else that it agrees says nothing."""
    kinds: frozenset[float] = frozenset()
    """Of whole numbers, some of those that were seen: where there are several, it depends on what goes in."""
    given: bool = False
    """Whether what comes behind it was computed from the export's value: what came before it shows nowhere else."""


def wires(places: Sequence[Place], source: Network) -> Iterator[Wire]:
    """Yield the values that both have: what goes into each place and what comes out of it."""
    consumers = source.consumers()
    for place in places:
        node = place.node
        if place.again or not node.inputs:
            continue
        own = place.operation or place.norms[0].call
        geometry = node.geometry
        together = 1 + (len(geometry.size) if geometry is not None else 0)
        axis, target = tensors.axis_of(own), tensors.axis_of(node)
        front = tensors.axis_of(place.front.call) if place.front is not None else axis
        if place.own_x and not node.factor:
            yield Wire(place.x, node.inputs[0], "x", place, front, target, together)
        label = _activated(place, consumers) if place.own_y else ""
        if label:
            yield Wire(label, node.outputs[0], "y", place, axis, target, together)


def _activated(place: Place, consumers: Mapping[str, tuple[Node, ...]]) -> str:
    """Return the value of the source that a place returns, its activation included; empty if it shows none."""
    if place.node.limits is None and not place.node.activation:
        return place.y
    behind = activation_behind(place, consumers)
    return behind.outputs[0] if behind is not None else ""


def activation_behind(place: Place, consumers: Mapping[str, tuple[Node, ...]]) -> Node | None:
    """Return the operation of the source that alone takes what a place returns, if that takes nothing else."""
    after = consumers.get(place.y, ())
    if len(after) == 1 and len(after[0].inputs) == 1 and after[0].kernel is None and not after[0].layer:
        return after[0]
    return None


def told_apart(
    places: Sequence[Place], source: Network, free: Mapping[str, Array], values: Mapping[str, Array]
) -> tuple[Place, ...]:
    """Return the places; those of equal numbers, as of a layer that is called twice, each with its own operation.

    Which call is which only what flows can tell.
    """
    groups: dict[bytes, list[Place]] = {}
    for place in places:
        groups.setdefault(_key(place), []).append(place)
    found: list[Place] = []
    for group in groups.values():
        labels = {one.y for one in group}
        if len(group) == 1 or len(labels) != len(group):
            found += group if len(group) == 1 else [replace(one, again=True) for one in group]
            continue
        waiting = list(group)
        for own in group:
            best = min(waiting, key=lambda one: _distance(replace(own, node=one.node), source, free, values))
            waiting.remove(best)
            found.append(replace(own, node=best.node, expected=own.expected, again=False))
    order = {id(one.node): place for place, one in enumerate(places)}
    return tuple(sorted(found, key=lambda one: order[id(one.node)]))


def _key(place: Place) -> bytes:
    return place.expected.weights.tobytes() + place.expected.bias.tobytes()


def _distance(place: Place, source: Network, free: Mapping[str, Array], values: Mapping[str, Array]) -> float:
    total = 0.0
    for wire in wires([replace(place, again=False)], source):
        own, other = free.get(wire.label), values.get(wire.value)
        moved = None if own is None or other is None else _arranged(wire, other, own)
        if own is None or moved is None:
            return float("inf")
        with np.errstate(all="ignore"):
            total += float(np.nan_to_num(np.abs(moved.astype(np.float64) - own), nan=np.inf).max(initial=0.0))
    return total


def _arranged(wire: Wire, values: Array, own: Array) -> Array | None:
    turned = tensors.turned_back(values, wire.place.node) if wire.place is not None and wire.end == "y" else values
    rows = wire.place.rows if wire.place is not None and wire.end == "x" else None
    if rows is not None and values.shape[-1:] == rows.shape:
        turned = values[..., np.argsort(rows)]
    return tensors.arranged(turned, wire.target, own.shape, wire.axis, wire.together)


@dataclass(frozen=True, eq=False)
class Comparing:
    """Everything that stretches are compared with."""

    network: Network
    """Of the export."""
    stored: Mapping[str, Array]
    """What the export's runtime had at each value, integers as they are."""
    values: Mapping[str, Array]
    """The same, as what the integers stand for."""
    proofs: Mapping[int, Proof]
    """By the identity of the export's operation."""
    replay: Replay
    data: Sequence[Array] | None
    forces: bool = True
    """Whether the source can be given values on the way; if not, it runs on its own, and errors add up."""
    seed: int = 0


def compare(found: Sequence[Wire], free: Mapping[str, Array], how: Comparing) -> tuple[Stretch, ...]:
    """Return how the end of each stretch compares.

    Args:
        found: the values that both have, and the outputs.
        free: what the source computed of them on its own; of each it says the shape.
        how: everything else.
    """
    arranged: dict[int, Array] = {}
    failed: list[Stretch] = []
    for wire in found:
        if wire.label not in free or wire.value not in how.values:
            failed.append(Stretch(wire, why="it cannot be seen in both"))
            continue
        moved = _arranged(wire, how.values[wire.value], free[wire.label])
        if moved is None:
            failed.append(_of_another_shape(wire, how.values[wire.value], free[wire.label]))
        else:
            arranged[id(wire)] = moved
    kept = [wire for wire in found if id(wire) in arranged]
    given = _forced(kept, arranged, free) if how.forces else Given()
    labels = [wire.label for wire in kept]
    computed = how.replay(how.data, given.arrays, labels)
    known = {wire.value for wire in kept if wire.label in given.arrays}
    slack = Slack(how.network, how.stored, known, {wire.value for wire in kept if _recomputed(wire, how) is not None})
    judged = [_judged(wire, arranged[id(wire)], given, computed, slack, how, None) for wire in kept]
    if any(one.compared is not None and not one.compared.agrees for one in judged):
        moved_by = _moved(kept, given.arrays, computed, how)
        judged = [_judged(wire, arranged[id(wire)], given, computed, slack, how, moved_by) for wire in kept]
    return (*failed, *_with_moves(judged, given, computed, how))


def _of_another_shape(wire: Wire, values: Array, own: Array) -> Stretch:
    what = "output" if wire.end != "x" else "input"
    why = f"its {what} has shape {values.shape} in the export and {own.shape} in the source"
    # What goes in may be what a padding or a reshape was merged into. Steps of time may stand before the samples.
    return Stretch(wire, why=why, wrong=wire.end != "x" and values.size != own.size)


@dataclass(frozen=True, eq=False)
class Given:
    """The export's values that the source is run again with."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    """By label of the source."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What the export calls each."""
    made: Mapping[str, Array] = field(default_factory=dict)
    """What came out of a kernel, by label: what goes into the next is compared with it."""

    def enters(self, place: Place) -> bool:
        """Return whether the source was given what goes into a place as the export had it there."""
        return bool(place.node.inputs) and self.values.get(place.x) == place.node.inputs[0]


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
    moved: Mapping[str, float] | None,
) -> Stretch:
    """Compare the end of one stretch."""
    own = computed[wire.label]
    proof = _recomputed(wire, how)
    mine = _arranged(wire, _turned(proof.value, wire), own) if proof is not None and proof.value is not None else None
    if proof is not None and mine is not None:
        # From the same input: the model's framework and our own arithmetic with the export's strides and padding.
        values, spare = mine, 2 * proof.bound + _entering(wire.place, given, slack)
    else:
        # What came out of a kernel would only be compared with itself.
        own = given.made[wire.label] if wire.label in given.made and wire.end != "y" else own
        spare = slack.arriving(wire.value)
    if not np.isfinite(spare):
        why = f"before it lies '{slack.unknown}', of which it is not known what it makes of rounding"
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
        return Stretch(wire, compared, wrong=not same, exact=True, kinds=kinds)
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
    allowed = FLOOR * unit * largest + spare + MARGIN * (moved.get(wire.label, 0.0) if moved else 0.0) + 1e-37
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
        why = "on this input values on the way to it are cut off at the ends of their type"
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


def _moved(
    kept: Sequence[Wire], forced: Mapping[str, Array], computed: Mapping[str, Array], how: Comparing
) -> dict[str, float]:
    """Return the largest change of each value when what goes in is moved by one rounding, RUNS times."""
    generator = np.random.default_rng(how.seed)
    labels = [wire.label for wire in kept]
    found = dict.fromkeys(labels, 0.0)
    for _ in range(RUNS):
        given = {label: nudged(array, tensors.unit(array), generator) for label, array in forced.items()}
        data = None if how.data is None else [nudged(one, tensors.unit(one), generator) for one in how.data]
        for label, values in how.replay(data, given, labels).items():
            if values.dtype.kind == "f" and values.size:
                with np.errstate(all="ignore"):
                    change = np.abs(values.astype(np.float64) - computed[label])
                found[label] = max(found[label], float(np.nanmax(change, initial=0.0)))
    return found


def nudged(values: Array, part: float, generator: np.random.Generator) -> Array:
    """Return values each of which is moved by `part` of itself, up, down or not at all."""
    if values.dtype.kind != "f":
        return values
    moved: Array = (values * (1 + part * generator.integers(-1, 2, values.shape))).astype(values.dtype)
    return moved


def _with_moves(
    judged: Sequence[Stretch],
    given: Given,
    computed: Mapping[str, Array],
    how: Comparing,
) -> Iterator[Stretch]:
    """Yield the stretches, those marked whose end does not depend visibly on what goes in."""
    asked = [
        one
        for one in judged
        if one.compared is not None and not one.wrong and (one.wire.end == "y" or one.wire.label not in given.made)
    ]
    still: dict[int, Stretch] = {id(one): one for one in asked}
    # A value on the way may only not be dead; of an output that is nearly saturated the least change has to show.
    for part, ends in ((_NUDGE, ("x", "y", "output")), (_TURN, ("x", "y"))):
        waiting = [one for one in still.values() if one.wire.end in ends]
        if not waiting:
            continue
        generator = np.random.default_rng(how.seed + 1)
        shaken = {label: _shaken(array, part, generator) for label, array in given.arrays.items()}
        data = None if how.data is None else [_shaken(one, part, generator) for one in how.data]
        after = how.replay(data, shaken, [one.wire.label for one in waiting])
        for one in waiting:
            if _moves(one, computed[one.wire.label], after[one.wire.label]):
                del still[id(one)]
    for one in judged:
        yield replace(one, moves=False) if id(one) in still else one


def _moves(stretch: Stretch, before: Array, now: Array) -> bool:
    """Return whether the end of a stretch changed by more than it may be off."""
    allowed = stretch.compared.worst.bound if stretch.compared is not None and stretch.compared.worst else None
    with np.errstate(all="ignore"):
        changes = np.abs(now.astype(np.float64) - before.astype(np.float64))
        return len(stretch.kinds) > 1 or bool((changes > 2 * (allowed or 0.0)).any())


def _shaken(values: Array, part: float, generator: np.random.Generator) -> Array:
    if values.dtype.kind != "f":
        return values
    moved: Array = (values * (1 + part * generator.uniform(-1, 1, values.shape))).astype(values.dtype)
    return moved
