"""What is seen of an export on one input, every operation and every stretch between; and on several inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.compare import merge
from bninspect.equivalence import local, measuring, tensors, wiring
from bninspect.equivalence.folding import U
from bninspect.equivalence.local import Proof
from bninspect.equivalence.pairing import Place
from bninspect.equivalence.slack import between
from bninspect.equivalence.wiring import Comparing, Replay, Stretch, Wire
from bninspect.records import Array, Comparison
from bninspect.records.graph import ActivationLimits, Network, Node
from bninspect.runtimes.runtime import Session


@dataclass(frozen=True, eq=False)
class Round:
    """What one input shows, or several together."""

    places: tuple[Place, ...] = ()
    proofs: Mapping[int, Proof] = field(default_factory=dict)
    """By the identity of the export's operation."""
    stretches: tuple[Stretch, ...] = ()
    outputs: tuple[Comparison, ...] = ()
    """Of the outputs of the two, each on its own."""
    off: float | None = None
    """Largest difference of the two's outputs, each run on its own, as a part of the largest output."""
    agreement: tuple[int, int] | None = None
    """Of how many samples the largest output is the same, and of how many."""
    unreached: tuple[str, ...] = ()
    """Limits of activations that no number reached, in words."""
    lost: tuple[str, ...] = ()
    """Outputs of the model that no output of the export can be, by their shape."""
    unseen: tuple[str, ...] = ()
    """Outputs of the model that nobody could see."""
    order: tuple[int, ...] = ()
    """Places of the export's outputs, in the order of the model's."""
    deployed: tuple[Comparison, ...] = ()
    """Of the outputs with the runtime's own optimisation with those without."""

    cut: Mapping[str, float] = field(default_factory=dict)
    """Values that were rounded to steps, and how much of each lies beyond the last of them and is cut off."""

    @property
    def wrong(self) -> bool:
        """Whether anything was seen that is wrong."""
        proofs = (proof.compared for proof in self.proofs.values())
        return (
            bool(self.lost)
            or any(one.wrong for one in self.stretches)
            or any(one is not None and not one.agrees for one in proofs)
        )

    @property
    def is_open(self) -> bool:
        """Whether other input might show more."""
        return bool(self.unreached) or any(not one.moves for one in self.stretches)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and its export, ready to be run."""

    source: Network
    export: Network
    session: Session
    replay: Replay | None
    forces: bool
    places: tuple[Place, ...]
    seed: int = 0


def see(subject: Subject, given: Mapping[str, Array], data: Sequence[Array]) -> Round:
    """Run both on the same input and return what is seen.

    Args:
        subject: the two.
        given: input of the export, by name.
        data: the same input in the order and the layout of the source.
    """
    export = subject.export
    named = [
        name for place in subject.places for name in (*place.node.inputs, *place.node.outputs[:1], *place.node.rounds)
    ]
    ends = [one.name for one in export.outputs]
    needed = _quantised_between(subject, ends)
    limited = [node.outputs[0] for node in export.nodes if node.limits is not None and np.isfinite(node.limits.high)]
    stored = subject.session.compute(given, list(dict.fromkeys((*named, *needed, *limited, *ends))))
    values = {name: tensors.real(one, export.quantised.get(name)) for name, one in stored.items()}
    if subject.replay is None:
        proofs = {id(one.node): local.prove(one, export, stored, U) for one in subject.places}
        return Round(subject.places, proofs, deployed=deployed(subject, given, values, {}))
    outputs = [one.name for one in subject.source.outputs]
    free = subject.replay(data, {}, list(dict.fromkeys((*_common(subject), *outputs))))
    places = wiring.told_apart(subject.places, subject.source, free, values)
    unit = max((tensors.unit(one) for one in free.values()), default=U)
    proofs = {id(one.node): local.prove(one, export, stored, unit) for one in places}
    belong = _belonging(subject, free, values, outputs, ends)
    found = [*wiring.wires(places, subject.source), *(wire for wire in belong.values())]
    how = Comparing(export, stored, values, proofs, subject.replay, data, subject.forces, subject.seed)
    stretches = wiring.compare(found, free, how)
    seen = [one for one in outputs if one in free]
    lost = tuple(f"{outputs.index(one)} of shape {free[one].shape}" for one in seen if one not in belong)
    rough = {wire.value: _difference(wire, free, values) for wire in belong.values()}
    return Round(
        places,
        proofs,
        stretches,
        tuple(_ends(stretches)),
        _largest_difference(belong, free, values),
        _agreement(belong, free, values),
        tuple(_unreached(subject, places, free, values)),
        lost,
        tuple(str(place) for place, one in enumerate(outputs) if one not in free),
        tuple(ends.index(wire.value) for wire in belong.values()),
        deployed(subject, given, values, {key: one for key, one in rough.items() if np.isfinite(one)}),
        dict(_cut(export, values)),
    )


def _common(subject: Subject) -> Iterable[str]:
    """Yield the values of the source that are looked at: what both may have, and what an activation cuts off."""
    yield from (one.name for one in subject.source.inputs)
    for wire in wiring.wires([replace(one, again=False) for one in subject.places], subject.source):
        yield wire.label
    for node in subject.source.nodes:
        if _upper(node.limits):
            yield node.outputs[0]


def _cut(export: Network, values: Mapping[str, Array]) -> Iterable[tuple[str, float]]:
    """Yield how much of what is rounded to even steps on the way lies beyond their ends."""
    for node in export.nodes:
        quantised = export.quantised.get(node.outputs[0]) if node.outputs else None
        before = values.get(node.inputs[0]) if node.inputs else None
        if quantised is None or quantised.levels is None or before is None or not before.size:
            continue
        wide = before.astype(np.float64)
        lost = np.abs(tensors.cut_off(wide, quantised, quantised.axis % wide.ndim) - wide)
        yield node.outputs[0], float(np.mean(lost > tensors.step(node.outputs[0], export) / 2))


def join(one: Round, other: Round) -> Round:
    """Return what two inputs show together."""
    before = {_key(each.wire): each for each in one.stretches}
    stretches = tuple(_joined(before.get(_key(each.wire)), each) for each in other.stretches)
    proofs = {key: _joined_proof(one.proofs.get(key), proof) for key, proof in other.proofs.items()}
    outputs = tuple(merge(a, b) for a, b in zip(one.outputs, other.outputs, strict=False))
    deployed = tuple(merge(a, b) for a, b in zip(one.deployed, other.deployed, strict=False))
    unreached = tuple(each for each in one.unreached if each in other.unreached)
    return replace(
        other,
        proofs=proofs,
        stretches=stretches,
        outputs=outputs,
        unreached=unreached,
        deployed=deployed,
        cut={name: max(share, other.cut.get(name, 0.0)) for name, share in one.cut.items()},
        agreement=one.agreement,
        lost=one.lost,
        unseen=one.unseen,
        order=one.order,
    )


def _key(wire: Wire) -> tuple[str, str, str]:
    return wire.label, wire.value, wire.end


def _joined(before: Stretch | None, after: Stretch) -> Stretch:
    if before is None:
        return after
    if before.compared is None or after.compared is None:
        return before if before.wrong or after.compared is None else after
    worse = before if before.wrong else after
    kinds = before.kinds | after.kinds
    moves = before.moves or after.moves or len(kinds) > 1
    return replace(worse, compared=merge(before.compared, after.compared), moves=moves, kinds=kinds)


def _joined_proof(before: Proof | None, after: Proof) -> Proof:
    if before is None or before.compared is None or after.compared is None:
        return after if after.compared is not None or before is None else before
    costs = [one for one in (before.cost, after.cost) if one is not None]
    compared = merge(before.compared, after.compared)
    return replace(before, compared=compared, cost=max(costs, default=None), value=None)


def _quantised_between(subject: Subject, ends: Iterable[str]) -> list[str]:
    """Return the values whose size decides what rounding on the way may do: those between proved ones, if any round."""
    export = subject.export
    rough = bool(export.quantised) or any(
        one.kernel is not None and (one.kernel.dtype != "float32" or one.kernel.weight_step is not None)
        for one in export.nodes
    )
    if not rough:
        return []
    known = {name for place in subject.places for name in (*place.node.inputs, *place.node.outputs)}
    starts = [*(place.node.inputs[0] for place in subject.places if place.node.inputs), *ends]
    nodes = {id(node): node for start in starts for node in between(export, known - {start}, start)}
    return [name for node in nodes.values() for name in (*node.inputs, *node.outputs)]


def _belonging(
    subject: Subject,
    free: Mapping[str, Array],
    values: Mapping[str, Array],
    outputs: Sequence[str],
    ends: Sequence[str],
) -> dict[str, Wire]:
    """Return the output of the export that is each output of the source: the nearest ones of fitting shapes.

    Converters sort outputs and give them names of their own. Their axes must stand as those of the model's do, or
    with the channels at the other end where the operations of the two files have them so.
    """
    targets = _conventions(subject.places)
    found: list[tuple[float, int, int, Wire]] = []
    for place, label in enumerate(outputs):
        for other, name in enumerate(ends):
            if label not in free or name not in values:
                continue
            for axis, target in targets:
                wire = Wire(label, name, "output", None, axis, target)
                off = _difference(wire, free, values)
                if np.isfinite(off):
                    found.append((off, place, other, wire))
    belong: dict[str, Wire] = {}
    taken: set[str] = set()
    for _, _, _, wire in sorted(found, key=lambda one: one[:3]):
        if wire.label not in belong and wire.value not in taken:
            belong[wire.label] = wire
            taken.add(wire.value)
    return {label: belong[label] for label in outputs if label in belong}


def _conventions(places: Sequence[Place]) -> list[tuple[int, int]]:
    """Return where source and export have their channels: the same place, or one in front and one behind."""
    moved = set()
    for place in places:
        own, other = tensors.axis_of(place.operation), tensors.axis_of(place.node)
        if place.operation is not None and place.node.geometry is not None and place.node.geometry.size:
            rank = len(place.node.geometry.size)
            first, second = own not in {-1, rank + 1}, other not in {-1, rank + 1}
            if first != second:
                moved.add((1, -1) if first else (-1, 1))
    return [(-1, -1), *sorted(moved)]


def _difference(wire: Wire, free: Mapping[str, Array], values: Mapping[str, Array]) -> float:
    own = free[wire.label]
    moved = tensors.arranged(values[wire.value], wire.target, own.shape, wire.axis, own.ndim)
    if moved is None or (own.dtype.kind == "f") != (moved.dtype.kind == "f"):
        return float("inf")
    if not own.size:
        return 0.0
    with np.errstate(all="ignore"):
        found = float(np.abs(moved.astype(np.float64) - own.astype(np.float64)).max())
    return found if np.isfinite(found) else float(np.finfo(np.float64).max)


def _ends(stretches: Sequence[Stretch]) -> Iterable[Comparison]:
    """Yield the comparisons of the outputs, each from the last values that both have."""
    for one in stretches:
        if one.wire.end == "output" and one.compared is not None:
            yield replace(one.compared, observed="model output")


def _largest_difference(
    belong: Mapping[str, Wire], free: Mapping[str, Array], values: Mapping[str, Array]
) -> float | None:
    parts = []
    for wire in belong.values():
        own = free[wire.label]
        size = float(np.abs(own).max(initial=0.0)) if own.dtype.kind == "f" else 0.0
        if size > 0 and np.isfinite(size):
            parts.append(_difference(wire, free, values) / size)
    return max(parts, default=None)


def _agreement(
    belong: Mapping[str, Wire], free: Mapping[str, Array], values: Mapping[str, Array]
) -> tuple[int, int] | None:
    """Return of how many samples the largest of the first output's numbers is the same, and of how many."""
    for wire in belong.values():
        own, other = free[wire.label], values[wire.value]
        if own.dtype.kind == "f" and own.ndim == 2 and own.shape[1] > 1 and own.shape == other.shape:
            return int((own.argmax(axis=1) == other.argmax(axis=1)).sum()), len(own)
    return None


def _unreached(
    subject: Subject, places: Sequence[Place], free: Mapping[str, Array], values: Mapping[str, Array]
) -> Iterable[str]:
    """Yield the upper limits that one of the two has and the other has not, and that no number reached."""
    known = {id(node) for pair in _activations(places, subject) for node in pair}
    own = [node for node in subject.source.nodes if _upper(node.limits) and id(node) not in known]
    other = [node for node in subject.export.nodes if _upper(node.limits) and id(node) not in known]
    if sorted(_upper(node.limits) for node in own) == sorted(_upper(node.limits) for node in other):
        return
    for nodes, where, arrays in ((own, "model", free), (other, "export", values)):
        for node in nodes:
            top, array = _upper(node.limits), arrays.get(node.outputs[0])
            if array is not None and not bool((array >= top * (1 - 1e-6)).any()):
                yield f"{node.operation} {node.name} of the {where} cuts off at {top:g}, which no number reached"


def _upper(limits: ActivationLimits | None) -> float:
    return limits.high if limits is not None and np.isfinite(limits.high) else 0.0


def _activations(places: Sequence[Place], subject: Subject) -> Iterable[tuple[Node, Node]]:
    """Yield the activation behind each place of the source, with the operation of the export that has it."""
    consumers = subject.source.consumers()
    for place in places:
        behind = wiring.activation_behind(place, consumers)
        if behind is not None and place.node.limits is not None:
            yield behind, place.node


def deployed(
    subject: Subject, given: Mapping[str, Array], values: Mapping[str, Array], rough: Mapping[str, float]
) -> tuple[Comparison, ...]:
    """Compare the outputs as the runtime computes them for everybody with those that were proved.

    Both are roundings of the same numbers. What two runtimes that compute the same differ by is what rounding does to
    this model; where there is nothing to go by, or that is not enough, the input is moved by one rounding, again and
    again.
    """
    export = subject.export
    fast = {
        name: tensors.real(array, export.quantised.get(name))
        for name, array in subject.session.optimised(given).items()
        if name in values
    }
    declared = subject.session.deployed
    unit = precision(declared.dtype).unit if declared is not None else U
    found = _held(fast, values, rough, export, unit)
    if all(one.agrees for one in found):
        return found
    moved = _moved(subject, given, values, list(fast), unit)
    return _held(fast, values, {name: max(rough.get(name, 0.0), moved[name]) for name in fast}, export, unit)


def _moved(
    subject: Subject, given: Mapping[str, Array], values: Mapping[str, Array], names: Sequence[str], unit: float
) -> dict[str, float]:
    """Return the largest change of each output when the input is moved by one rounding."""
    generator = np.random.default_rng(subject.seed)
    found = dict.fromkeys(names, 0.0)
    for _ in range(wiring.RUNS):
        nudged = {name: wiring.nudged(one, max(tensors.unit(one), unit), generator) for name, one in given.items()}
        for name, array in subject.session.compute(nudged, names).items():
            real = tensors.real(array, subject.export.quantised.get(name))
            with np.errstate(all="ignore"):
                change = np.abs(real.astype(np.float64) - values[name])
            found[name] = max(found[name], float(np.nanmax(change, initial=0.0)))
    return found


def _held(
    fast: Mapping[str, Array], values: Mapping[str, Array], rough: Mapping[str, float], export: Network, unit: float
) -> tuple[Comparison, ...]:
    compared = []
    for name, array in fast.items():
        plain = values[name]
        if array.shape != plain.shape or not plain.ndim:
            continue
        wide = plain.astype(np.float64)
        largest = float(np.abs(wide).max(initial=0.0))
        off = wiring.MARGIN * rough.get(name, 0.0) + tensors.step(name, export)
        allowed = off + wiring.FLOOR * max(tensors.unit(plain), unit) * largest + 1e-37
        bound = np.full((1,) * wide.ndim, allowed)
        compared.append(
            measuring.measured(array, wide, bound, observed="optimised output", reference="plain", axis=wide.ndim - 1)
        )
    return tuple(compared)
