"""What could not be compared, in words: it closes the gate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from bninspect.equivalence.evidence.replay import Stretch
from bninspect.equivalence.evidence.rounds import Round
from bninspect.equivalence.judgement import claims
from bninspect.equivalence.judgement.case import Case
from bninspect.equivalence.judgement.layers import behind_of, unshown
from bninspect.equivalence.judgement.views import LayerView
from bninspect.equivalence.pairing.places import Place
from bninspect.records import LayerStatus, graph
from bninspect.records.graph import Network, Node


def gaps(case: Case, views: Mapping[int, LayerView], places: Sequence[Place]) -> Iterator[str]:
    """Yield what could not be compared, beside the batch norms that are unverified themselves."""
    if case.seen is None:
        yield case.reason
        return
    if not case.replayed:
        yield "what lies between the operations was not compared: the model cannot be run again on the export's values"
        return
    yield from case.seen.unreached
    if case.given and (cut := claims.of_data(case.seen.cut)):
        yield f"its ranges were not made for this data: {cut}"
    yield from _hidden(case)
    for place in places:
        view = views[id(place.node)]
        if not place.norms and view.status is LayerStatus.UNVERIFIED and place.operation is not None:
            yield f"{place.operation.name}: {view.sentence}"
    yield from _uncompared(case.seen, case, views, places)
    inside = {norm.kernel for norm in case.diagnoses}
    for operation in (one for one in case.kernels if one not in inside):
        right = covered(operation, case)
        said = unshown(operation, case) if right else ""
        if said or not right:
            yield f"{operation.name}: its weights are nowhere in the export{said and f', and {said}'}"


def _uncompared(seen: Round, case: Case, views: Mapping[int, LayerView], places: Sequence[Place]) -> Iterator[str]:
    """Yield the outputs, and the values on the way behind which nothing shows it, that were not compared."""
    yield from (f"outputs not compared: output {name} of the model could not be seen" for name in seen.unseen)
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
        yield "outputs not compared: what the model returns could not be seen"


def _hidden(case: Case) -> Iterator[str]:
    """Yield the branches of either side that hold kernels or batch norms."""
    for title, read in (("the model", case.source), ("the export", case.export)):
        for node in read.nodes:
            if node.within:
                count = "a kernel or batch norm" if node.within == 1 else f"{node.within} kernels and batch norms"
                yield f"{node.name} of {title}: {count} in branches, not all of which are seen to run"


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
    # TFLite's names have the number of the tensor in front, and are those of all that became one operation.
    return re.sub(r"^\d+:([^;]+).*", r"\1", stretch.wire.value)


def covered(operation: Node, case: Case) -> bool:
    """Return whether all that a kernel reaches first was compared without rounding to spare, and agrees."""
    met = behind_of(operation, case)
    return bool(met) and all(one.proves for one in met)
