"""From what was found of each batch norm in an export to a verdict on it, and on the export as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect.conversion import diagnosis, measuring, outputs
from bninspect.conversion.diagnosis import ALIKE, Diagnosis
from bninspect.conversion.pairing import Match, Pairing, SourceNorm
from bninspect.records import (
    Array,
    Cause,
    Comparison,
    Counterpart,
    Explanation,
    LayerStatus,
    verdict,
)
from bninspect.records.graph import Network, Node
from bninspect.runtimes.keras.tracing import TracedCall

FOLDED, FORWARD, PAIR, NODE = "folded", "folded forward", "scale and shift", "batch norm"


@dataclass(frozen=True, eq=False)
class Seen:
    """What both runtimes showed: `None` where the export was not run or its tensors say nothing."""

    calls: Mapping[SourceNorm, TracedCall]
    values: Mapping[str, Array] | None
    quantised: bool = False
    dtype: str = "float32"
    """The coarsest type to which one of them rounds."""
    loud: bool = False
    """Whether there are two samples, the second one loud."""
    ends: tuple[Comparison, ...] = ()
    """The outputs of the two models."""
    reason: str = ""
    """Why the export was not run."""


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdict on one call of a batch norm."""

    norm: SourceNorm
    counterpart: Counterpart
    wrong: bool
    """Whether its own numbers are wrong, or stand where they must not."""


def judge(
    found: Sequence[SourceNorm], pairing: Pairing, source: Network, export: Network, seen: Seen
) -> tuple[tuple[Judged, ...], bool]:
    """Return the verdict on each call, and whether the export is one of this model at all."""
    pairing = replace(pairing, matches=_by_outputs(pairing.matches, seen))
    others = {norm.layer.name: norm.layer for norm in found}
    diagnoses = {
        norm: diagnosis.diagnose(norm, pairing, [one for one in others.values() if one is not norm.layer])
        for norm in pairing.missing
    }
    placed = [one for one in diagnoses.values() if one.node is not None]
    same = bool(pairing.matches) or any(one.found or one.likeness >= ALIKE for one in placed)
    first = [
        _matched(pairing.matches[norm], pairing, export, place, seen)
        if norm in pairing.matches
        else _missing(norm, diagnoses[norm], same=same)
        for place, norm in enumerate(found)
    ]
    upstream = _upstream(source, {norm.call for norm in found})
    return tuple(_with_origins(list(_unless_in_doubt(first, upstream, seen)), upstream)), same


def _by_outputs(matches: Mapping[SourceNorm, Match], seen: Seen) -> Mapping[SourceNorm, Match]:
    """Return the matches, those of a layer that is called several times in the order that their outputs tell.

    A layer that is shared has the same weights at each of its places: which call is which only its numbers say.
    """
    by_layer: dict[str, list[SourceNorm]] = {}
    for norm in matches:
        by_layer.setdefault(norm.layer.name, []).append(norm)
    found = dict(matches)
    for norms in by_layer.values():
        left = [matches[norm] for norm in norms]
        for norm in norms if len(norms) > 1 else ():
            best = min(left, key=lambda one: _distance(replace(one, norm=norm), seen))
            left.remove(best)
            found[norm] = replace(best, norm=norm)
    return found


def _distance(match: Match, seen: Seen) -> float:
    compared = _output(match, 0, seen).compared
    return float("inf") if compared is None or compared.ratio is None else compared.ratio


def _matched(match: Match, pairing: Pairing, export: Network, place: int, seen: Seen) -> Judged:
    assert match.node.kernel is not None  # noqa: S101 - only such nodes are matched
    broken = diagnosis.broken(match, pairing, export)
    output = _output(match, place, seen)
    numbers = measuring.of_kernel(match.expected, match.node.kernel)
    comparisons = numbers if output.compared is None else (*numbers, output.compared)
    status, sentence = output.status, output.sentence
    if broken is not None:
        status, sentence = LayerStatus.MISMATCH, broken.sentence
    explanation = _explanation([broken], 0, comparisons) if broken is not None else None
    place_name = f"{match.node.operation} '{match.node.name}'"
    counterpart = Counterpart(
        status, None, _how(match), place_name, sentence, comparisons=comparisons, explanation=explanation
    )
    return Judged(match.norm, counterpart, broken is not None)


def _how(match: Match) -> str:
    if match.forward:
        return FORWARD
    if not match.node.layer:
        return FOLDED
    return PAIR if match.node.folded else NODE


@dataclass(frozen=True, eq=False)
class _Output:
    """What the output of a layer whose numbers are right says of it."""

    status: LayerStatus
    sentence: str = ""
    compared: Comparison | None = None


def _output(match: Match, place: int, seen: Seen) -> _Output:
    """Compare a layer's output with that of the source, where both can be seen."""
    norm, call = match.norm, seen.calls.get(match.norm)
    if seen.values is None:
        return _unseen(f"and the export was not run: {seen.reason}")
    if match.forward or match.hidden:
        return _Output(LayerStatus.VERIFIED)
    if call is None:
        return _unseen("and its source did not run")
    value = seen.values.get(match.node.outputs[0])
    y = outputs.activated(call.y.astype(np.float64), match.node.activation)
    if value is None or y is None:
        return _unseen("and its output in the export cannot be seen")
    if value.size != y.size:
        shapes = f"its output has shape {value.shape} in the export and {y.shape} in the source"
        return _Output(LayerStatus.MISMATCH, f"its numbers are right, {shapes}")
    if seen.quantised:
        return _Output(LayerStatus.VERIFIED)
    affine = norm.affine
    with np.errstate(all="ignore"):
        size = np.abs(affine.scale) * call.largest + np.abs(affine.mean * affine.scale) + np.abs(affine.beta)
    axis = call.axis[0] if len(call.axis) == 1 else call.y.ndim - 1
    compared = outputs.compared(y, value, size, place + 1, axis=axis, dtype=seen.dtype, loud=seen.loud)
    if compared is None:
        return _unseen(f"and no order of its output of shape {value.shape} in the export is {y.shape}")
    if compared.agrees:
        return _Output(LayerStatus.VERIFIED, compared=compared)
    return _Output(LayerStatus.MISMATCH, "its numbers are right, its output is not", compared)


def _unseen(why: str) -> _Output:
    return _Output(LayerStatus.UNVERIFIED, f"its numbers are right, {why}")


def _missing(norm: SourceNorm, found: Diagnosis, *, same: bool) -> Judged:
    place = "" if found.node is None else f"{found.node.operation} '{found.node.name}'"
    explanation = _explanation(found.found, found.tried, found.comparisons)
    if not same:
        sentence = "the export is of another model"
    elif not found.found and found.likeness < ALIKE:
        sentence = f"the export holds other weights (correlation {found.likeness:.2f}): of another training, or layer"
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


def _explanation(found: Sequence[Cause], tried: int, comparisons: Sequence[Comparison]) -> Explanation:
    elements = sum(one.elements for one in comparisons)
    return Explanation(matches=False, causes=tuple(found), tried=tried, elements=elements)


def _unless_in_doubt(
    judged: Sequence[Judged], upstream: Mapping[Node, tuple[Node, ...]], seen: Seen
) -> Iterator[Judged]:
    """Yield the verdicts; that a batch norm was left out is known only if what comes behind it is wrong."""
    by_call = {one.norm.call: one.counterpart for one in judged}
    for one in judged:
        explanation = one.counterpart.explanation
        if explanation is None or diagnosis.LEFT_OUT not in {cause.name for cause in explanation.causes}:
            yield one
            continue
        behind = [other.counterpart for other in judged if one.norm.call in upstream[other.norm.call]]
        compared = [each for other in behind for each in other.comparisons if each.observed == measuring.OUTPUT]
        compared += seen.ends
        right = [by_call[call].status is LayerStatus.VERIFIED for call in upstream[one.norm.call]]
        sentence = ""
        if compared and all(each.agrees for each in compared):
            sentence = "its numbers are nowhere in the export, though all that comes behind it is right"
        elif not one.counterpart.place and not (compared and all(right)):
            sentence = one.counterpart.sentence
        if sentence:
            yield replace(one, counterpart=Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=sentence))
        else:
            yield one


def _with_origins(judged: Sequence[Judged], upstream: Mapping[Node, tuple[Node, ...]]) -> Iterator[Judged]:
    """Yield the verdicts, those of outputs that differ only because of an earlier layer marked so."""
    by_call = {one.norm.call: one for one in judged}
    for one in judged:
        counterpart = one.counterpart
        failed = [
            by_call[call]
            for call in upstream[one.norm.call]
            if by_call[call].counterpart.status is not LayerStatus.VERIFIED
        ]
        if counterpart.status is LayerStatus.MISMATCH and not one.wrong and failed:
            origin = next((each for each in failed if each.wrong), failed[0]).norm.layer.name
            sentence = f"its numbers are right; its output differs because of {origin}, which comes before it"
            counterpart = replace(counterpart, inherited=origin, sentence=sentence)
        yield replace(one, counterpart=counterpart)


def _upstream(source: Network, norms: set[Node]) -> Mapping[Node, tuple[Node, ...]]:
    """Return, for each batch norm, those that its input depends on, in the order of the source."""
    before: dict[str, frozenset[Node]] = {}
    found: dict[Node, tuple[Node, ...]] = {}
    order = {node: place for place, node in enumerate(source.nodes)}
    for node in source.nodes:
        needed = frozenset[Node]().union(*(before.get(value, frozenset()) for value in node.inputs))
        if node in norms:
            found[node] = tuple(sorted(needed, key=lambda one: order[one]))
            needed |= {node}
        # The steps of a TimeDistributed have the same inputs and outputs.
        before.update({value: needed | before.get(value, frozenset()) for value in node.outputs})
    return found


def by_layer(judged: Sequence[Judged]) -> Mapping[str, Counterpart]:
    """Return one verdict per layer: the worst of its calls, with the comparisons of all."""
    found: dict[str, Counterpart] = {}
    for one in judged:
        name, counterpart = one.norm.layer.name, one.counterpart
        before = found.get(name)
        if before is None:
            found[name] = counterpart
            continue
        worse, other = sorted((before, counterpart), key=lambda each: verdict.rank(each.status))
        joined = measuring.joined((*worse.comparisons, *other.comparisons))
        found[name] = replace(worse, comparisons=joined)
    return found
