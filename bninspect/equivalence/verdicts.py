"""The verdict on an export: one pure function of the numbers, the local proofs, the wiring and the diagnoses.

Nothing is verified of which a piece is missing. What is wrong is shown by numbers; what could not be seen is open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect.equivalence import diagnosis, measuring, rebiasing, wiring
from bninspect.equivalence.diagnosis import ALIKE, Diagnosis
from bninspect.equivalence.evidence import Round
from bninspect.equivalence.local import Proof
from bninspect.equivalence.pairing import Match, Pairing, Place, SourceNorm
from bninspect.equivalence.wiring import Stretch
from bninspect.formats.channel_chains import RELUS
from bninspect.records import Cause, Comparison, Counterpart, Explanation, LayerStatus, graph, outcome
from bninspect.records.graph import Network, Node

FOLDED, FORWARD, PAIR, NODE = "folded", "folded forward", "scale and shift", "batch norm"


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdict on one call of a batch norm."""

    norm: SourceNorm
    counterpart: Counterpart
    wrong: bool
    """Whether its own numbers are wrong, or stand where they must not."""
    passed_on: bool = False
    """Whether nothing is wrong but its shape, or what goes into it, which it may have from an operation before it."""


@dataclass(frozen=True, eq=False)
class WrongKernel:
    """A kernel of the model, not of a batch norm, that the export does not hold or compute as the model does."""

    name: str
    sentence: str
    place: str = ""
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, eq=False)
class Sentence:
    """The verdict on an export."""

    judged: tuple[Judged, ...]
    same: bool
    kernels: tuple[WrongKernel, ...] = ()
    outputs: tuple[str, ...] = ()
    """What is wrong with what the export returns."""
    open: tuple[str, ...] = ()
    """What could not be compared, and closes the gate."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Case:
    """All that a verdict follows from."""

    norms: Sequence[SourceNorm]
    source: Network
    export: Network
    pairing: Pairing
    diagnoses: Mapping[SourceNorm, Diagnosis]
    kernels: Mapping[Node, Diagnosis]
    """Of the kernels of the model that no operation of the export holds."""
    seen: Round | None
    """None if the export was not run."""
    reason: str = ""
    """Why not."""
    replayed: bool = True
    """Whether the model could be run again on the export's values."""


def judge(case: Case) -> Sentence:
    """Return the verdict on an export."""
    places = case.seen.places if case.seen is not None else case.pairing.places
    views = {id(one.node): _view(one, case) for one in places}
    by_norm: dict[SourceNorm, Place] = {}
    for place in sorted(places, key=lambda one: outcome.rank(views[id(one.node)].status)):
        for norm in place.norms:
            by_norm.setdefault(norm, place)
    same = _is_same(case)
    first = [
        _matched(norm, by_norm[norm], views[id(by_norm[norm].node)], case)
        if norm in by_norm
        else _missing(norm, case, same=same)
        for norm in case.norms
    ]
    before = upstream(case.source)
    wrong_kernels = tuple(_kernels(case, views, places, before, first)) if same else ()
    judged = tuple(_with_origins(first, before))
    ends = tuple(_ends(case)) if same else ()
    found_wrong = bool(wrong_kernels or ends) or any(one.counterpart.status is LayerStatus.MISMATCH for one in judged)
    return Sentence(judged, same, wrong_kernels, ends, () if found_wrong else tuple(_open(case, views, places)))


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


def _view(place: Place, case: Case) -> LayerView:
    """Return the verdict on one place, whatever batch norms are in it."""
    assert place.node.kernel is not None  # noqa: S101 - only such nodes are matched
    numbers = measuring.of_kernel(place.expected, place.node.kernel)
    if case.seen is None:
        return LayerView(LayerStatus.UNVERIFIED, f"its numbers are right, and {case.reason}", numbers)
    proof = case.seen.proofs.get(id(place.node))
    stretches = {one.wire.end: one for one in case.seen.stretches if _is_of(one, place)}
    compared = tuple(_shown(numbers, proof, stretches))
    others = [one for one in case.norms if one not in place.norms]
    mistake = diagnosis.of_bias(place, others) if place.rebiased else None
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
    if place.rebiased:
        return LayerView(LayerStatus.UNVERIFIED, rebiasing.sentence(place, case.export), compared)
    return LayerView(LayerStatus.VERIFIED, "", compared)


def _is_of(stretch: Stretch, place: Place) -> bool:
    return stretch.wire.place is not None and stretch.wire.place.node is place.node


def _first(stretch: Stretch, case: Case) -> str:
    producers = case.export.producers()
    maker = producers.get(stretch.wire.value)
    by = f", first seen at {maker.place}" if maker is not None else ""
    return f"what goes into it is not what the model makes of the same values before it{by}"


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
    behind = wiring.activation_behind(place, case.source.consumers())
    own = behind.limits if behind is not None else None
    node = place.node
    if node.limits is None and node.activation == "":
        after = graph.readers(node.outputs[0], case.export.consumers())
        if len(after) != 1 or len(after[0].inputs) != 1 or after[0].limits is None or own is None:
            return ""
        node = after[0]
    if behind is None or own == node.limits:
        return ""
    if own is None and behind.operation not in diagnosis.KNOWN_ACTIVATIONS:
        return ""
    return f"its activation is {_kind(node)} in the export and {_kind(behind)} in the model"


def _kind(node: Node) -> str:
    if node.limits is None:
        return node.activation or node.operation
    name = next((key for key, one in RELUS.items() if one == node.limits), "")
    return name or f"a clip to {node.limits.low:g} and {node.limits.high:g}"


def _matched(norm: SourceNorm, place: Place, view: LayerView, case: Case) -> Judged:
    match = Match(norm, place.node, place.expected, norm is place.front)
    broken = diagnosis.broken(match, case.pairing, case.export) or view.cause
    if broken is None and view.status is LayerStatus.MISMATCH:
        broken = diagnosis.other_axis(norm, place.node)
    how = FORWARD if match.forward else FOLDED if not place.node.layer else PAIR if place.node.folded else NODE
    status, sentence, explanation = view.status, view.sentence, None
    if broken is not None:
        status, sentence = LayerStatus.MISMATCH, broken.sentence
        explanation = _explanation([broken], 0, view.comparisons)
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


def _missing(norm: SourceNorm, case: Case, *, same: bool) -> Judged:
    found = case.diagnoses[norm]
    place = "" if found.node is None else found.node.place
    explanation = _explanation(found.found, found.tried, found.comparisons)
    left_out = diagnosis.LEFT_OUT in {cause.name for cause in found.found}
    if same and left_out and (doubt := _doubt(norm, found, case)) is not None:
        return Judged(norm, doubt, wrong=False)
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


def _doubt(norm: SourceNorm, found: Diagnosis, case: Case) -> Counterpart | None:
    """Return what is said of a batch norm that is nowhere, where what comes behind it does not show that it is gone."""
    behind = _behind(norm, case)
    compared = [one for one in behind if one.compared is not None]
    if any(one.wrong for one in behind):
        return None
    if compared and all(one.exact and one.moves for one in compared):
        sentence = "its numbers are nowhere in the export, and what comes behind it is right without rounding to spare"
        how = "in another form"
        return Counterpart(LayerStatus.VERIFIED, None, how, "", sentence, comparisons=_joined(compared))
    if compared:
        sentence = "its numbers are nowhere in the export, though all that comes behind it is right"
    elif found.node is None:
        sentence = found.found[0].sentence
    else:
        return None
    return Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=sentence)


def _joined(stretches: Iterable[Stretch]) -> tuple[Comparison, ...]:
    return measuring.joined(
        tuple(replace(one.compared, observed=measuring.OUTPUT) for one in stretches if one.compared is not None)
    )


def _behind(norm: SourceNorm, case: Case) -> list[Stretch]:
    """Return the nearest values behind a batch norm that were compared, of those that it reaches without another."""
    if case.seen is None:
        return []
    ends: dict[str, list[Stretch]] = {}
    for one in case.seen.stretches:
        ends.setdefault(one.wire.label, []).append(one)
    consumers = case.source.consumers()
    found: list[Stretch] = []
    waiting, known = list(norm.call.outputs), set[str]()
    while waiting:
        value = waiting.pop()
        if value in known:
            continue
        known.add(value)
        if value in ends:
            found += ends[value]
            continue
        waiting += [name for node in consumers.get(value, ()) for name in node.outputs]
    if not found:
        found = [one for one in case.seen.stretches if one.wire.end == "output"]
    return found


def _explanation(found: Sequence[Cause], tried: int, comparisons: Sequence[Comparison]) -> Explanation:
    elements = sum(one.elements for one in comparisons)
    return Explanation(matches=False, causes=tuple(found), tried=tried, elements=elements)


def _is_same(case: Case) -> bool:
    """Return whether the export is one of this model, which it is unless something was compared and contradicts."""
    if case.pairing.places:
        return True
    every = [*case.diagnoses.values(), *case.kernels.values()]
    placed = [one for one in every if one.node is not None]
    return not placed or any(one.found or one.likeness >= ALIKE for one in placed)


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
        place_name = found.node.place
        explanation = _explanation(found.found, found.tried, found.comparisons)
        sentence = explanation.sentence if found.found else off(found)
        yield WrongKernel(operation.name, sentence, place_name, found.comparisons)


def off(found: Diagnosis) -> str:
    """Return in words how many numbers of a kernel differ."""
    parts = []
    for one in found.comparisons:
        if not one.agrees:
            channels = f", channel {one.channels[0]} first" if one.channels else ""
            parts.append(f"{one.violations:,} of {one.elements:,} {one.observed} differ{channels}")
    return "; ".join(parts) or "its numbers are others"


def _ends(case: Case) -> Iterator[str]:
    """Yield what is wrong with what the export returns."""
    if case.seen is None:
        return
    if case.seen.lost:
        yield f"the export has no output that could be the model's output {' and '.join(case.seen.lost)}"
    for one in case.seen.stretches:
        if one.wire.end == "output" and one.wrong:
            ratio = one.compared.ratio if one.compared is not None else None
            times = "" if ratio is None else f", {ratio:.3g} times what rounding allows"
            yield f"the model output of the export is not that of the model{times}"
    for compared in case.seen.deployed:
        if not compared.agrees:
            times = "" if compared.ratio is None else f", {compared.ratio:.3g} times what rounding allows"
            yield f"the optimised output of the export is not the one that was proved{times}"


def _open(case: Case, views: Mapping[int, LayerView], places: Sequence[Place]) -> Iterator[str]:
    """Yield what could not be compared, beside the batch norms that are unverified themselves."""
    if case.seen is None:
        yield case.reason
        return
    if not case.replayed:
        yield "what lies between the operations was not compared: the model cannot be run again on the export's values"
        return
    yield from case.seen.unreached
    yield from _hidden(case)
    for place in places:
        view = views[id(place.node)]
        if not place.norms and view.status is LayerStatus.UNVERIFIED and place.operation is not None:
            yield f"{place.operation.name}: {view.sentence}"
    yield from _uncompared(case.seen, case, views, places)
    for operation, found in case.kernels.items():
        if (
            found.node is None
            and operation not in {norm.kernel for norm in case.norms}
            and not _covered(operation, case)
        ):
            yield f"{operation.name}: its weights are nowhere in the export"


def _uncompared(seen: Round, case: Case, views: Mapping[int, LayerView], places: Sequence[Place]) -> Iterator[str]:
    """Yield the outputs, and the values on the way behind which nothing shows it, that were not compared."""
    yield from (f"outputs not compared: nobody could see output {name} of the model" for name in seen.unseen)
    for one in seen.stretches:
        name = _called(one)
        if one.wire.end == "output" and one.compared is None:
            yield f"outputs not compared: {one.why}"
        elif one.compared is None and one.given:
            yield f"{name} not compared: {one.why}"
        elif one.wire.end == "x" and one.given and not one.moves:
            yield f"{name} not compared: it does not depend visibly on what goes in, whatever the input"
        elif one.wire.end == "output" and not one.moves and not _of_one_kind(one, case, views, places):
            yield f"outputs not compared: {name} does not depend visibly on what goes in, whatever the input"
    if not any(one.wire.end == "output" for one in seen.stretches):
        yield "outputs not compared: nobody could see what the model returns"


def _hidden(case: Case) -> Iterator[str]:
    """Yield the branches of either side that hold kernels or batch norms."""
    for title, read in (("the model", case.source), ("the export", case.export)):
        for node in read.nodes:
            if node.within:
                count = "a kernel or batch norm" if node.within == 1 else f"{node.within} kernels and batch norms"
                yield f"{node.name} of {title}: {count} in branches, of which nobody sees all run"


_ALIASES = {"logistic": "sigmoid", "arg max": "argmax"}
_ALIASES |= {"com.microsoft::qlinearsigmoid": "sigmoid", "com.microsoft::qlinearsoftmax": "softmax"}


def _of_one_kind(stretch: Stretch, case: Case, views: Mapping[int, LayerView], places: Sequence[Place]) -> bool:
    """Return whether an output that says nothing is made by the same one operation of what was proved.

    What is saturated is compared before it saturates: what goes in is a proved value, and the operation is known on
    both sides and the same.
    """
    own = _maker(stretch.wire.label, case.source)
    other = case.export.producers().get(stretch.wire.value)
    other = _passed(other, case.export)
    if own is None or other is None or not own.setting or own.setting != other.setting:
        return False
    if _ALIASES.get(own.operation, own.operation) != _ALIASES.get(other.operation, other.operation):
        return False
    proved = {place.node.outputs[0]: views[id(place.node)].status for place in places}
    origin = graph.origin(other.inputs[0], case.export.producers())
    return origin is not None and proved.get(origin.outputs[0]) is LayerStatus.VERIFIED


def _passed(node: Node | None, network: Network) -> Node | None:
    producers = network.producers()
    return graph.origin(node.inputs[0], producers) if node is not None and node.operation in graph.PASSING else node


def _maker(label: str, network: Network) -> Node | None:
    """Return the operation of the source that makes an output; of a traced model with one output the last one."""
    found = network.producers().get(label)
    if found is None and len(network.outputs) == 1 and network.nodes:
        found = network.nodes[-1]
    return _passed(found, network)


def _called(stretch: Stretch) -> str:
    # TFLite's names have the number of the tensor in front.
    return re.sub(r"^\d+:(?=.)", "", stretch.wire.value)


def _covered(operation: Node, case: Case) -> bool:
    """Return whether all that a kernel reaches first was compared without rounding to spare, and agrees."""
    if case.seen is None:
        return False
    ends = {one.wire.label: one for one in case.seen.stretches if one.compared is not None}
    consumers = case.source.consumers()
    waiting, known, met = list(operation.outputs), set[str](), []
    while waiting:
        value = waiting.pop()
        if value in known:
            continue
        known.add(value)
        if value in ends:
            met.append(ends[value])
            continue
        waiting += [name for node in consumers.get(value, ()) for name in node.outputs]
    met = met or [one for one in case.seen.stretches if one.wire.end == "output"]
    return bool(met) and all(
        one.compared is not None and one.compared.agrees and one.exact and one.moves for one in met
    )


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
