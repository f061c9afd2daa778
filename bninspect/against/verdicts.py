"""From what was found of each batch norm in an export to a verdict on it, and on the export as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect.against import diagnosis, measuring, outputs
from bninspect.against.diagnosis import ALIKE, Diagnosis
from bninspect.against.pairing import Match, Norm, Pairing
from bninspect.names import printable
from bninspect.network import Network, Node
from bninspect.records import (
    Array,
    Cause,
    Comparison,
    Counterpart,
    Explanation,
    Finding,
    LayerStatus,
    Severity,
)
from bninspect.runtimes.tracing import Call

FOLDED, FORWARD, PAIR, NODE = "folded", "folded forward", "scale and shift", "batch norm"


@dataclass(frozen=True, eq=False)
class Seen:
    """What both runtimes showed: `None` where the export was not run or its tensors say nothing."""

    calls: Mapping[Norm, Call]
    values: Mapping[str, Array] | None
    quantised: bool = False
    reason: str = ""
    """Why the export was not run."""


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdict on one call of a batch norm."""

    norm: Norm
    counterpart: Counterpart
    wrong: bool
    """Whether its own numbers are wrong, or stand where they must not."""


def judge(
    found: Sequence[Norm], pairing: Pairing, source: Network, export: Network, seen: Seen
) -> tuple[tuple[Judged, ...], bool]:
    """Return the verdict on each call, and whether the export is one of this model at all."""
    pairing = replace(pairing, matches=_by_outputs(pairing.matches, seen))
    others = {norm.layer.name: norm.layer for norm in found}
    diagnoses = {
        norm: diagnosis.diagnose(norm, pairing, [one for one in others.values() if one is not norm.layer])
        for norm in pairing.missing
    }
    same = bool(pairing.matches) or any(one.found or one.likeness >= ALIKE for one in diagnoses.values())
    first = [
        _matched(pairing.matches[norm], pairing, export, place, seen)
        if norm in pairing.matches
        else _missing(norm, diagnoses[norm], same=same)
        for place, norm in enumerate(found)
    ]
    return tuple(_with_origins(first, source)), same


def _by_outputs(matches: Mapping[Norm, Match], seen: Seen) -> Mapping[Norm, Match]:
    """Return the matches, those of a layer that is called several times in the order that their outputs tell.

    A layer that is shared has the same weights at each of its places: which call is which only its numbers say.
    """
    by_layer: dict[str, list[Norm]] = {}
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
    output, _ = _output(match, 0, seen)
    return float("inf") if output is None or output.ratio is None else output.ratio


def _matched(match: Match, pairing: Pairing, export: Network, place: int, seen: Seen) -> Judged:
    assert match.node.kernel is not None  # noqa: S101 - only such nodes are matched
    broken = diagnosis.broken(match, pairing, export)
    output, reason = _output(match, place, seen)
    numbers = measuring.of_kernel(match.expected, match.node.kernel)
    comparisons = numbers if output is None else (*numbers, output)
    status = LayerStatus.VERIFIED if output is None or output.agrees else LayerStatus.MISMATCH
    sentence = "" if status is LayerStatus.VERIFIED else "its numbers are right, its output is not"
    if broken is not None:
        status, sentence = LayerStatus.MISMATCH, broken.sentence
    elif output is None and reason:
        status, sentence = LayerStatus.UNVERIFIED, reason
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


def _output(match: Match, place: int, seen: Seen) -> tuple[Comparison | None, str]:
    """Return the comparison of a layer's output, or why it closes the gate that there is none."""
    norm, call = match.norm, seen.calls.get(match.norm)
    if seen.values is None:
        return None, f"its numbers are right, and the export was not run: {seen.reason}"
    if seen.quantised or match.forward:
        return None, ""
    if call is None:
        return None, "its numbers are right, and its source did not run"
    value = seen.values.get(match.node.outputs[0])
    y = outputs.activated(call.y.astype(np.float64), match.node.activation)
    if value is None or y is None:
        return None, "its numbers are right, and its output in the export cannot be seen"
    affine = norm.affine
    with np.errstate(all="ignore"):
        size = np.abs(affine.scale) * call.largest + np.abs(affine.mean * affine.scale) + np.abs(affine.beta)
    axis = call.axis[0] if len(call.axis) == 1 else call.y.ndim - 1
    compared = outputs.compared(y, value, size, place + 1, axis=axis, dtype=_dtype(match.node))
    if compared is None:
        return None, f"its output has shape {value.shape} in the export and {call.y.shape} in the source"
    return compared, ""


def _dtype(node: Node) -> str:
    return node.kernel.dtype if node.kernel is not None else "float32"


def _missing(norm: Norm, found: Diagnosis, *, same: bool) -> Judged:
    if found.node is None and same:
        reason = "no operation of the export has the shape of what should hold it"
        return Judged(norm, Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=reason), wrong=True)
    place = "" if found.node is None else f"{found.node.operation} '{found.node.name}'"
    explanation = _explanation(found.found, found.tried, found.comparisons)
    if found.found:
        sentence = explanation.sentence
    elif not same:
        sentence = "the export is of another model"
    elif found.likeness < ALIKE:
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


def _with_origins(judged: Sequence[Judged], source: Network) -> Iterator[Judged]:
    """Yield the verdicts, those of outputs that differ only because of an earlier layer marked so."""
    by_call = {one.norm.call: one for one in judged}
    upstream = _upstream(source, set(by_call))
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
        before.update(dict.fromkeys(node.outputs, needed))
    return found


def by_layer(judged: Sequence[Judged]) -> Mapping[str, Counterpart]:
    """Return one verdict per layer: the worst of its calls, with the comparisons of all."""
    order = (LayerStatus.MISMATCH, LayerStatus.UNVERIFIED, LayerStatus.VERIFIED)
    found: dict[str, Counterpart] = {}
    for one in judged:
        name, counterpart = one.norm.layer.name, one.counterpart
        before = found.get(name)
        if before is None:
            found[name] = counterpart
            continue
        worse, other = sorted((before, counterpart), key=lambda each: order.index(each.status))
        joined = measuring.joined((*worse.comparisons, *other.comparisons))
        found[name] = replace(worse, comparisons=joined)
    return found


def findings(counterpart: Counterpart) -> tuple[Finding, ...]:
    """Return what is to be said of a layer's counterpart: BN401 to BN404."""
    if counterpart.status is not LayerStatus.MISMATCH:
        return ()
    where = f" in {printable(counterpart.place)}" if counterpart.place else ""
    evidence = {
        "place": counterpart.place,
        "causes": [cause.name for cause in counterpart.explanation.causes] if counterpart.explanation else [],
        **{one.observed: one.ratio for one in counterpart.comparisons},
    }
    if counterpart.inherited:
        hint = f"look at {printable(counterpart.inherited)} first"
        return (Finding("BN403", Severity.ERROR, counterpart.sentence, evidence, hint),)
    wrong = [one for one in counterpart.comparisons if not one.agrees and one.observed != measuring.OUTPUT]
    if wrong or not counterpart.how:
        message = f"the export holds other numbers{where}: {counterpart.sentence}"
        return (Finding("BN401", Severity.ERROR, message, evidence, _HINT),)
    rule = "BN402" if counterpart.explanation is None else "BN404"
    return (Finding(rule, Severity.ERROR, f"{counterpart.sentence}{where}", evidence, _HINT),)


_HINT = "convert the model again with a converter that folds right, and verify the result"
