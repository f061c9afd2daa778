"""The verdict on one batch norm: found at a place, or missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from bninspect.equivalence import measuring
from bninspect.equivalence.diagnosis import misplaced
from bninspect.equivalence.diagnosis.diagnose import LEFT_OUT, Diagnosis
from bninspect.equivalence.evidence.hidden import Hidden, nearest
from bninspect.equivalence.evidence.replay import Stretch
from bninspect.equivalence.judgement.case import FOLDED, FORWARD, NODE, PAIR, Case, Judged
from bninspect.equivalence.judgement.views import LayerView
from bninspect.equivalence.pairing.places import Match, Place
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Cause, Comparison, Counterpart, Explanation, LayerStatus, graph
from bninspect.records.graph import Node


def judge_found(norm: SourceNorm, place: Place, view: LayerView, case: Case) -> Judged:
    """Return the verdict on a batch norm that is in a place of the export."""
    match = Match(norm, place.node, place.expected, norm is place.front)
    broken = misplaced.broken(match, case.pairing, case.export) or view.cause
    if broken is None and view.status is LayerStatus.MISMATCH:
        broken = misplaced.other_axis(norm, place.node)
    how = FORWARD if match.forward else FOLDED if not place.node.layer else PAIR if place.node.folded else NODE
    status, sentence, explanation = view.status, view.sentence, None
    if broken is not None:
        status, sentence = LayerStatus.MISMATCH, broken.sentence
        explanation = explain([broken], 0, view.comparisons)
    counterpart = Counterpart(
        status,
        None,
        how,
        place.node.place,
        sentence,
        comparisons=view.comparisons,
        explanation=explanation,
        momentum=_other_momentum(norm, place.node),
    )
    return Judged(norm, counterpart, status is LayerStatus.MISMATCH, (view.shaped or view.incoming) and broken is None)


def _other_momentum(norm: SourceNorm, node: Node) -> float | None:
    """Return the momentum of a batch norm that survives, if both files state one and they differ by more than float32.

    Inference does not use it: the export is right whatever it is. Training the export further does use it.
    """
    own, other = norm.layer.momentum, node.norm.momentum if node.norm is not None else None
    return other if own is not None and other is not None and np.float32(own) != np.float32(other) else None


def judge_missing(norm: SourceNorm, case: Case, *, same: bool) -> Judged:
    """Return the verdict on a batch norm that no place of the export holds."""
    found = case.diagnoses[norm]
    place = "" if found.node is None else found.node.place
    explanation = explain(found.found, found.tried, found.comparisons)
    left_out = LEFT_OUT in {cause.name for cause in found.found}
    other_form = left_out or not found.recognised or is_scaled(found)
    if same and other_form and (doubt := _doubt(norm, found, case)) is not None:
        return Judged(norm, doubt, wrong=False)
    if not same:
        sentence = "the export is of another model"
    elif not found.recognised:
        sentence = (
            f"the export holds different weights (correlation {found.likeness:.2f}): of another training, or layer"
        )
    else:
        sentence = explanation.sentence
    counterpart = Counterpart(
        LayerStatus.MISMATCH,
        None,
        "",
        place,
        sentence,
        comparisons=found.comparisons,
        explanation=explanation if same else None,
    )
    return Judged(norm, counterpart, wrong=True)


def is_scaled(found: Diagnosis) -> bool:
    """Return whether all that is known of numbers is a factor so far from 1 that what comes behind shows it.

    A number that multiplies what flows may have been taken into the kernel beside it.
    """
    factors = [one.details.get("factor") for one in found.found]
    return bool(factors) and all(isinstance(one, float) and abs(one - 1) > _PLAIN for one in factors)


_PLAIN = 1e-3
"""By how much a factor differs from 1 that no rounding hides."""


def _doubt(norm: SourceNorm, found: Diagnosis, case: Case) -> Counterpart | None:
    """Return what is said of a batch norm that is nowhere, where what comes behind it does not show that it is gone."""
    behind = behind_of(norm.call, case)
    compared = [one for one in behind if one.compared is not None]
    if any(one.wrong for one in behind):
        return None
    if behind and all(one.proves for one in behind):
        sentence = unshown(norm.call, case) or _unshown_kernel(norm, case)
        if sentence:
            sentence = f"its numbers are nowhere in the export, and {sentence}"
            return Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=sentence)
        sentence = (
            "its numbers are nowhere in the export, and what comes after it is right, with no room left for rounding"
        )
        how = "in another form"
        return Counterpart(LayerStatus.VERIFIED, None, how, "", sentence, comparisons=_joined(compared))
    if compared:
        sentence = "its numbers are nowhere in the export, though everything after it is right"
    elif is_scaled(found) and norm.kernel is not None and may_be_taken_in(norm.kernel, case):
        sentence = f"{explain(found.found, found.tried, found.comparisons).sentence}, as the model does next to it"
    elif found.node is None and found.found:
        sentence = found.found[0].sentence
    else:
        return None
    return Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=sentence)


def _joined(stretches: Iterable[Stretch]) -> tuple[Comparison, ...]:
    return measuring.joined(
        tuple(replace(one.compared, observed=measuring.OUTPUT) for one in stretches if one.compared is not None)
    )


def behind_of(operation: Node, case: Case) -> list[Stretch]:
    """Return how the nearest values behind an operation of the model compare."""
    return nearest(operation, case.source, case.seen.stretches) if case.seen is not None else []


def unshown(operation: Node, case: Case) -> str:
    """Return in words what of an operation shows in nothing that was compared; empty if everything does."""
    found = case.seen.hidden.get(operation) if case.seen is not None else None
    return (found or Hidden(unseen=True)).sentence


_MULTIPLYING = ("multiply", "mul", "divide", "div", "true divide", "truediv")


def may_be_taken_in(operation: Node, case: Case) -> bool:
    """Return whether the model multiplies by a number next to a kernel, which may be in it: nothing behind is wrong."""
    before = graph.origin(operation.inputs[0], case.source.producers()) if operation.inputs else None
    after = [one for value in operation.outputs for one in graph.readers(value, case.source.consumers())]
    beside = [one for one in (before, *after) if one is not None and len(one.inputs) == 1]
    scales = any(one.operation.replace("_", " ") in _MULTIPLYING for one in beside)
    return scales and not any(one.wrong for one in behind_of(operation, case))


def _unshown_kernel(norm: SourceNorm, case: Case) -> str:
    """Return what of the kernel of a batch norm shows nowhere: what it returns shows as what the batch norm does."""
    if norm.kernel is None or norm.kernel not in case.pairing.lost:
        return ""
    known = case.seen.hidden.get(norm.kernel) if case.seen is not None else None
    alone = graph.readers(norm.kernel.outputs[0], case.source.consumers()) == (norm.call,)
    return replace(known, outputs=frozenset()).sentence if alone and known is not None else unshown(norm.kernel, case)


def explain(found: Sequence[Cause], tried: int, comparisons: Sequence[Comparison]) -> Explanation:
    """Return causes as the explanation of the comparisons that they explain."""
    elements = sum(one.elements for one in comparisons)
    return Explanation(matches=False, causes=tuple(found), tried=tried, elements=elements)


def off(found: Diagnosis) -> str:
    """Return in words how many numbers of a kernel differ."""
    parts = []
    for one in found.comparisons:
        if not one.agrees:
            channels = f", channel {one.channels[0]} first" if one.channels else ""
            parts.append(f"{one.violations:,} of {one.elements:,} {one.observed} differ{channels}")
    return "; ".join(parts) or "its numbers are different"
