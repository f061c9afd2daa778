"""Runs a model and its export on one input: every operation, and every stretch between two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bninspect.equivalence import tensors
from bninspect.equivalence.evidence import cut_off, local, sums, wires
from bninspect.equivalence.evidence.deployed import coarsest, deployed
from bninspect.equivalence.evidence.hidden import Hidden
from bninspect.equivalence.evidence.outputs import (
    agreement,
    belonging,
    compared_outputs,
    difference,
    largest_difference,
)
from bninspect.equivalence.evidence.replay import Comparing
from bninspect.equivalence.evidence.rounds import Round, Subject
from bninspect.equivalence.evidence.stretches import compare
from bninspect.equivalence.folding import U
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array
from bninspect.records.graph import NARROW, ActivationLimits, Node, leading_to


def see(
    subject: Subject, given: Mapping[str, Array], data: Sequence[Array], known: Mapping[Node, Hidden] | None = None
) -> Round:
    """Run both on the same input and return what is seen.

    Args:
        subject: the two.
        given: input of the export, by name.
        data: the same input in the order and the layout of the source.
        known: what other input hides of the lost operations.
    """
    export = subject.export
    named = [
        name for place in subject.places for name in (*place.node.inputs, *place.node.outputs[:1], *place.node.rounds)
    ]
    ends = [one.name for one in export.outputs]
    needed = _quantised_between(subject, ends)
    limited = [node.outputs[0] for node in export.nodes if node.limits is not None and np.isfinite(node.limits.high)]
    summed = [node.inputs[0] for node in export.nodes if sums.adds_up(node)]
    stored = subject.session.compute(given, list(dict.fromkeys((*named, *needed, *limited, *summed, *ends))))
    values = {name: tensors.real(one, export.quantised.get(name)) for name, one in stored.items()}
    if subject.replay is None:
        proofs = {id(one.node): local.prove(one, export, stored, U) for one in subject.places}
        fast = deployed(subject, given, values, {})
        cut = dict(cut_off.seen(export, stored, subject.places, proofs))
        return Round(subject.places, proofs, deployed=fast, arithmetic=coarsest(export, stored), cut=cut)
    outputs = [one.name for one in subject.source.outputs]
    free = _looked_at(subject, data, outputs)
    places = wires.told_apart(subject.places, subject.source, free, values)
    unit = max((tensors.unit(one) for one in free.values()), default=U)
    proofs = {id(one.node): local.prove(one, export, stored, unit) for one in places}
    belong = belonging(subject, free, values, outputs, ends)
    rough = {wire.value: difference(wire, free, values) for wire in belong.values()}
    # Before the model is run again: the sessions of the one and the values of the other need much memory.
    fast = deployed(subject, given, values, {key: one for key, one in rough.items() if np.isfinite(one)})
    found = [*wires.wires(places, subject.source), *(wire for wire in belong.values())]
    how = Comparing(export, stored, values, proofs, subject.replay, data, subject.forces, subject.seed, subject.source)
    stretches, hidden = compare(found, free, how, subject.lost, known or {})
    seen = [one for one in outputs if one in free]
    lost = tuple(f"{outputs.index(one)} of shape {free[one].shape}" for one in seen if one not in belong)
    return Round(
        places,
        proofs,
        stretches,
        tuple(compared_outputs(stretches)),
        largest_difference(belong, free, values),
        agreement(belong, free, values),
        tuple(_unreached(subject, places, free, values)),
        lost,
        tuple(str(place) for place, one in enumerate(outputs) if one not in free),
        tuple(ends.index(wire.value) for wire in belong.values()),
        fast,
        coarsest(export, stored),
        hidden,
        dict(cut_off.seen(export, stored, places, proofs)),
    )


def _looked_at(subject: Subject, data: Sequence[Array], outputs: Sequence[str]) -> dict[str, Array]:
    """Return the values of the source on its own that are looked at; of most only the shape is asked, and may be known.

    The numbers themselves are needed of the outputs, of calls that only they can tell apart, and of what an activation
    cuts off that the export may not have.
    """
    assert subject.replay is not None  # noqa: S101 - narrows the type
    loose = [replace(one, again=False) for one in subject.places]
    shaped = [*(one.name for one in subject.source.inputs), *(one.label for one in wires.wires(loose, subject.source))]
    doubtful = [replace(one, again=False) for one in wires.doubtful(subject.places)]
    numbers = [
        *(one.label for one in wires.wires(doubtful, subject.source)),
        *(node.outputs[0] for node in _unmatched_limits(subject, subject.places)[0]),
    ]
    free = {
        label: np.broadcast_to(np.zeros((), one.dtype), [length or 0 for length in one.shape])
        for label in shaped
        if label not in numbers and (one := subject.outlines.get(label)) is not None
    }
    if data is subject.data:
        free |= subject.returned
    missing = [label for label in (*shaped, *numbers, *outputs) if label not in free]
    return free | dict(subject.replay(data, {}, list(dict.fromkeys(missing)))) if missing else free


def _quantised_between(subject: Subject, ends: Iterable[str]) -> list[str]:
    """Return the values whose size decides what rounding on the way may do: those between proved ones, if any round."""
    export = subject.export
    rough = bool(export.quantised) or any(
        one.constants in NARROW
        or (one.kernel is not None and (one.kernel.dtype != "float32" or one.kernel.weight_step is not None))
        for one in export.nodes
    )
    if not rough:
        return []
    known = {name for place in subject.places for name in (*place.node.inputs, *place.node.outputs)}
    starts = [*(place.node.inputs[0] for place in subject.places if place.node.inputs), *ends]
    nodes = {id(node): node for start in starts for node in leading_to([start], export, known - {start})}
    return [name for node in nodes.values() for name in (*node.inputs, *node.outputs)]


def _unreached(
    subject: Subject, places: Sequence[Place], free: Mapping[str, Array], values: Mapping[str, Array]
) -> Iterable[str]:
    """Yield the upper limits that one of the two has and the other has not, and that no number reached."""
    own, other = _unmatched_limits(subject, places)
    for nodes, where, arrays in ((own, "model", free), (other, "export", values)):
        for node in nodes:
            top, array = _upper(node.limits), arrays.get(node.outputs[0])
            if array is not None and not bool((array >= top * (1 - 1e-6)).any()):
                yield f"{node.operation} {node.name} of the {where} cuts off at {top:g}, which no number reached"


def _unmatched_limits(subject: Subject, places: Sequence[Place]) -> tuple[list[Node], list[Node]]:
    """Return the operations of either that cut off above, unless all of both cut off at the same number.

    Where others do not cut off, or elsewhere, only numbers that reach a limit tell that it stands in its place.
    """
    known = {id(node) for pair in _activations(places, subject) for node in pair}
    own, other = (
        [node for node in network.nodes if node.limits is not None and id(node) not in known]
        for network in (subject.source, subject.export)
    )
    kinds = {node.limits for node in (*own, *other)}
    own, other = ([node for node in nodes if _upper(node.limits)] for nodes in (own, other))
    return ([], []) if len(kinds) == 1 and len(own) == len(other) else (own, other)


def _upper(limits: ActivationLimits | None) -> float:
    return limits.high if limits is not None and np.isfinite(limits.high) else 0.0


def _activations(places: Sequence[Place], subject: Subject) -> Iterable[tuple[Node, Node]]:
    """Yield the activation behind each place of the source, with the operation of the export that has it."""
    consumers, readers = subject.source.consumers(), subject.export.consumers()
    for place in places:
        behind, other = wires.activation_behind(place, consumers), wires.with_limits(place.node, readers)
        if behind is not None and other is not None:
            yield behind, other
