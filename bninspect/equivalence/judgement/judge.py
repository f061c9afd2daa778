"""The verdict on an export: one pure function of the numbers, the local proofs, the wiring and the diagnoses.

Nothing is verified of which a piece is missing. What is wrong is shown by numbers; what could not be seen is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bninspect.equivalence import measuring
from bninspect.equivalence.judgement.case import Case, Judged, Sentence, WrongKernel
from bninspect.equivalence.judgement.gaps import covered, gaps
from bninspect.equivalence.judgement.layers import (
    explain,
    is_scaled,
    judge_found,
    judge_missing,
    may_be_taken_in,
    off,
)
from bninspect.equivalence.judgement.views import LayerView, added, view_of
from bninspect.equivalence.pairing.fits import is_shifted
from bninspect.equivalence.pairing.places import Place
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records import Counterpart, LayerStatus, graph, outcome
from bninspect.records.graph import Network, Node
from bninspect.records.limit_words import of_limit


def judge(case: Case) -> Sentence:
    """Return the verdict on an export."""
    places = case.seen.places if case.seen is not None else case.pairing.places
    views = {id(one.node): view_of(one, case) for one in places}
    by_norm: dict[SourceNorm, Place] = {}
    for place in sorted(places, key=lambda one: outcome.rank(views[id(one.node)].status)):
        for norm in place.norms:
            by_norm.setdefault(norm, place)
    same = _is_same(case)
    first = [
        judge_found(norm, by_norm[norm], views[id(by_norm[norm].node)], case)
        if norm in by_norm
        else judge_missing(norm, case, same=same)
        for norm in case.norms
    ]
    before = upstream(case.source)
    wrong_kernels = tuple(_kernels(case, views, places, before, first)) if same else ()
    judged = tuple(_with_origins(first, before))
    ends = tuple(_ends(case)) if same else ()
    found_wrong = bool(wrong_kernels or ends) or any(one.counterpart.status is LayerStatus.MISMATCH for one in judged)
    return Sentence(judged, same, wrong_kernels, ends, () if found_wrong else tuple(gaps(case, views, places)))


def _is_same(case: Case) -> bool:
    """Return whether the export is one of this model, which it is unless something was compared and contradicts."""
    if case.pairing.places:
        return True
    ends = [] if case.seen is None else [one for one in case.seen.stretches if one.wire.end == "output"]
    if ends and all(one.compared is not None and one.compared.agrees and one.moves for one in ends):
        return True
    every = [*case.diagnoses.values(), *case.kernels.values()]
    placed = [one for one in every if one.node is not None]
    return not placed or any(one.recognised for one in placed)


def _kernels(
    case: Case,
    views: Mapping[int, LayerView],
    places: Sequence[Place],
    before: Mapping[Node, frozenset[Node]],
    judged: Sequence[Judged],
) -> Iterator[WrongKernel]:
    """Yield the kernels without a batch norm that are wrong in the export, those behind a wrong layer left out."""
    wrong = {one.norm.call for one in judged if one.wrong} | set(case.kernels)
    for place in places:
        view = views[id(place.node)]
        if place.operation is not None and (view.incoming or view.shaped) and before[place.operation] & wrong:
            continue
        if not place.norms and view.status is LayerStatus.MISMATCH and place.operation is not None:
            name = place.node.place
            yield WrongKernel(place.operation.name, view.sentence, name, view.comparisons)
    inside = {norm.kernel for norm in case.norms if norm in case.diagnoses}
    for operation, found in case.kernels.items():
        if operation in inside or found.node is None:
            continue
        other_form = not found.recognised or is_scaled(found) or is_shifted(found.node, operation)
        if other_form and covered(operation, case):
            continue
        if is_scaled(found) and may_be_taken_in(operation, case):
            continue
        place_name = found.node.place
        explanation = explain(found.found, found.tried, found.comparisons)
        sentence = explanation.sentence if found.found else off(found)
        yield WrongKernel(operation.name, sentence, place_name, found.comparisons)


def _ends(case: Case) -> Iterator[str]:
    """Yield what is wrong with what the export returns."""
    if case.seen is None:
        return
    if case.seen.lost:
        yield f"the export has no output that could be the model's output {' and '.join(case.seen.lost)}"
    for one in case.seen.stretches:
        if one.wire.end == "output" and one.wrong:
            ratio = one.compared.ratio if one.compared is not None else None
            times = "" if ratio is None else f", {of_limit(ratio)}"
            yield f"the model output of the export is not that of the model{times}{added(one, case)}"
    for compared in case.seen.deployed:
        if not compared.agrees:
            times = "" if compared.ratio is None else f", {of_limit(compared.ratio)}"
            yield f"the optimised output of the export is not the one that was proved{times}"


def _with_origins(judged: Sequence[Judged], before: Mapping[Node, frozenset[Node]]) -> Iterator[Judged]:
    """Yield the verdicts, those behind a layer that is wrong as inherited from it."""
    for one in judged:
        counterpart = one.counterpart
        needed = before[one.norm.call]
        failed = [other for other in judged if other is not one and other.norm.call in needed and other.wrong]
        if failed and (counterpart.status is LayerStatus.VERIFIED or one.passed_on):
            origin = failed[0].norm.layer.name
            sentence = f"its numbers are right; its output differs because of {origin}, which comes before it"
            counterpart = replace(counterpart, status=LayerStatus.MISMATCH, inherited=origin, sentence=sentence)
        yield replace(one, counterpart=counterpart)


def upstream(source: Network) -> Mapping[Node, frozenset[Node]]:
    """Return, for each operation, those that its input depends on."""
    before: dict[str, frozenset[Node]] = {}
    found: dict[Node, frozenset[Node]] = {}
    for node in source.nodes:
        needed = frozenset[Node]().union(*(before.get(value, frozenset()) for value in node.inputs))
        found[node] = needed
        interesting = node.kernel is not None or node.operation == graph.BATCH_NORM
        before.update(dict.fromkeys(node.outputs, needed | {node} if interesting else needed))
    return found


def by_layer(judged: Sequence[Judged]) -> Mapping[str, Counterpart]:
    """Return one verdict per layer: the worst of its calls, with the comparisons of all."""
    found: dict[str, Counterpart] = {}
    for one in judged:
        name, counterpart = one.norm.layer.name, one.counterpart
        earlier = found.get(name)
        if earlier is None:
            found[name] = counterpart
            continue
        worse, other = sorted((earlier, counterpart), key=lambda each: outcome.rank(each.status))
        joined = measuring.joined((*worse.comparisons, *other.comparisons))
        found[name] = replace(worse, comparisons=joined)
    return found
