"""The verdict on one place of an export, whatever batch norms are in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from bninspect.equivalence import measuring
from bninspect.equivalence.diagnosis.kernels import of_bias
from bninspect.equivalence.evidence import wires
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.evidence.replay import Stretch
from bninspect.equivalence.judgement import claims
from bninspect.equivalence.judgement.case import Case
from bninspect.equivalence.pairing import rebiasing
from bninspect.equivalence.pairing.places import Place
from bninspect.equivalence.pairing.source_norms import ACTIVATIONS
from bninspect.formats.channel_chains import RELUS
from bninspect.records import Cause, Comparison, LayerStatus, graph
from bninspect.records.graph import Node


@dataclass(frozen=True, eq=False)
class LayerView:
    """What is known of one place."""

    status: LayerStatus
    sentence: str = ""
    comparisons: tuple[Comparison, ...] = ()
    cause: Cause | None = None
    shaped: bool = False
    """Whether nothing but its shape is wrong."""
    incoming: bool = False
    """Whether nothing is wrong but what goes into it."""


def view_of(place: Place, case: Case) -> LayerView:
    """Return the verdict on one place, whatever batch norms are in it."""
    assert place.node.kernel is not None  # noqa: S101 - only such nodes are matched
    numbers = measuring.of_kernel(place.expected, place.node.kernel)
    if case.seen is None:
        return LayerView(LayerStatus.UNVERIFIED, f"its numbers are right, and {case.reason}", numbers)
    proof = case.seen.proofs.get(id(place.node))
    stretches = {one.wire.end: one for one in case.seen.stretches if _is_of(one, place)}
    compared = tuple(_shown(numbers, proof, stretches))
    others = [one for one in case.norms if one not in place.norms]
    mistake = of_bias(place, others) if place.rebiased else None
    if mistake is not None:
        return LayerView(LayerStatus.MISMATCH, mistake.sentence, compared, mistake)
    changed = _activation(place, case)
    if changed:
        return LayerView(LayerStatus.MISMATCH, changed, compared, Cause("activation-changed", changed, 0.0))
    if proof is not None and proof.compared is not None and not proof.compared.agrees:
        return LayerView(LayerStatus.MISMATCH, "its numbers are right, what the runtime makes of them is not", compared)
    y, x = stretches.get("y"), stretches.get("x")
    if y is not None and y.wrong:
        why = y.why or "its output is not"
        # What it took could not be given to the model, so that it may have this from an operation before it.
        taken = x is not None and x.compared is not None
        shaped = y.compared is None
        sentence = f"its numbers are right, {why}"
        return LayerView(LayerStatus.MISMATCH, sentence, compared, shaped=shaped, incoming=not taken)
    if x is not None and x.wrong:
        return LayerView(LayerStatus.MISMATCH, f"its numbers are right, {_first(x, case)}", compared, incoming=True)
    unknown = proof is None or proof.compared is None
    if unknown and (y is None or y.compared is None):
        why = proof.why if proof is not None else "its output cannot be seen"
        return LayerView(
            LayerStatus.UNVERIFIED, f"its numbers are right, but it could not be recomputed: {why}", compared
        )
    coarse = claims.of_weights(place)
    if not coarse and proof is not None:
        behind = wires.activation_behind(place, case.source.consumers())
        own = behind.limits if behind is not None else None
        coarse = claims.of_range(place, proof, case.export, case.seen.cut, own)
    if coarse:
        return LayerView(LayerStatus.UNVERIFIED, f"its numbers are right, but {coarse}", compared)
    if place.rebiased:
        return LayerView(LayerStatus.UNVERIFIED, rebiasing.sentence(place, case.export), compared)
    return LayerView(LayerStatus.VERIFIED, "", compared)


def _is_of(stretch: Stretch, place: Place) -> bool:
    return stretch.wire.place is not None and stretch.wire.place.node is place.node


def _first(stretch: Stretch, case: Case) -> str:
    maker = case.export.producers().get(stretch.wire.value)
    seen = f", first seen at {maker.place}" if maker is not None else ""
    return f"what goes into it is not what the model makes of the same values before it{added(stretch, case) or seen}"


def added(stretch: Stretch, case: Case) -> str:
    """Return in words which batch norm the export has on a stretch and the model has not; empty without one.

    Nothing is said where one of the model's is missing, as that may be the one; nor of constants that scale and shift,
    which a model may have in another form.
    """
    if case.diagnoses:
        return ""
    places = case.pairing.places if case.seen is None else case.seen.places
    nodes = graph.leading_to([stretch.wire.value], case.export, {name for one in places for name in one.node.outputs})
    unpaired = {id(node) for node in case.pairing.pairs if node.layer and not node.folded}
    extra = next((node for node in nodes if id(node) in unpaired), None)
    return "" if extra is None else f": the export has {extra.place} there, and the model has none"


def _shown(
    numbers: tuple[Comparison, ...], proof: Proof | None, stretches: Mapping[str, Stretch]
) -> Iterator[Comparison]:
    yield from numbers
    if proof is not None and proof.compared is not None:
        yield replace(proof.compared, observed=measuring.OUTPUT)
    for end, name in (("x", "input"), ("y", "model's output")):
        one = stretches.get(end)
        if one is not None and one.compared is not None and not one.compared.agrees:
            yield replace(one.compared, observed=name)


def _activation(place: Place, case: Case) -> str:
    """Return how the activation behind an operation differs from the model's; empty if it does not, or nobody can say.

    Kinds are compared whatever numbers flowed: for small ones relu6 is relu.
    """
    if not place.own_y or place.again:
        return ""
    behind = wires.activation_behind(place, case.source.consumers())
    own = behind.limits if behind is not None else None
    node = place.node
    if node.limits is None and node.activation == "":
        after = graph.readers(node.outputs[0], case.export.consumers())
        if len(after) != 1 or len(after[0].inputs) != 1 or after[0].limits is None or own is None:
            return ""
        node = after[0]
    if behind is None or own == node.limits:
        return ""
    if own is None and behind.operation not in ACTIVATIONS:
        return ""
    return f"its activation is {_kind(node)} in the export and {_kind(behind)} in the model"


def _kind(node: Node) -> str:
    if node.limits is None:
        return node.activation or node.operation
    name = next((key for key, one in RELUS.items() if one == node.limits), "")
    return name or f"a clip to {node.limits.low:g} and {node.limits.high:g}"
