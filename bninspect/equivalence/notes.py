"""What is worth knowing of an export that decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bninspect.arithmetic.bounds import precision
from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.replay import FLOOR
from bninspect.equivalence.evidence.rounds import Round
from bninspect.equivalence.pairing.places import Pairing
from bninspect.equivalence.running import Ran
from bninspect.records import graph
from bninspect.records.graph import Network
from bninspect.runtimes import session as graph_run
from bninspect.safe_text import printable


def of_precision(ran: Ran) -> Iterator[str]:
    """Yield that the runtime computes in a coarser type by default, and what that hides."""
    declared = ran.session.deployed if ran.session is not None else None
    if declared is not None:
        part = 100 * FLOOR * precision(declared.dtype).unit
        hides = f"its outputs may then be off by {part:.2g} % of their largest, and what is smaller does not show"
        yield f"by default it computes in {graph_run.said(declared)}: {hides}"


def of_inputs(export: Network) -> Iterator[str]:
    """Yield the range of each input of an export that is rounded to steps before anything is computed of it."""
    consumers = export.consumers()
    for one in export.inputs:
        waiting, known = [one.name], set[str]()
        while waiting:
            value = waiting.pop()
            steps = tensors.grid(value, export)
            if steps is not None:
                low, high = (end.reshape(-1) for end in tensors.reach(steps))
                yield f"of its input what is below {low.min():.4g} or above {high.max():.4g} is cut off"
                break
            known.add(value)
            passing = [node for node in consumers.get(value, ()) if node.operation in graph.PASSING]
            waiting += [name for node in passing for name in node.outputs if name not in known]


def of_export(paired: Pairing, seen: Round | None, taken: Collection[int]) -> Iterator[str]:
    """Yield what else the export does, what it returns and what its quantisation costs.

    Args:
        paired: of the two.
        seen: what running them showed; None if they were not run.
        taken: identities of operations of the export of which something wrong is said.
    """
    # One number to multiply with and one to add are what models do to their input, for instance.
    left = [node for node in paired.pairs if id(node) not in taken]  # what is wrong of others is said of the layer
    extra = [node.name for node in left if node.kernel is not None and node.kernel.outputs > 1]
    if extra:
        others = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        yield f"it also scales and shifts where the model does not: at {printable(extra[0])}{others}"
    if seen is None:
        return
    if seen.off is not None:
        yield f"run each on its own, the outputs differ by {seen.off:.2g} of the largest"
    if seen.agreement is not None:
        same, of = seen.agreement
        yield f"the largest output is the same for {same} of {of} sample{'' if of == 1 else 's'}"
    if list(seen.order) != sorted(seen.order):
        yield f"it returns the outputs of the model in another order: {', '.join(map(str, seen.order))}"
    yield from _costs(seen)


def _costs(seen: Round) -> Iterator[str]:
    """Yield what quantisation costs, and where numbers are cut off at the ends of their range."""
    costs = [(proof.cost, place) for place in seen.places if (proof := seen.proofs[id(place.node)]).cost is not None]
    if costs:
        most, place = max(costs, key=lambda one: one[0] or 0.0)
        where = printable(place.node.name)
        yield f"it is quantised, which costs at most {most:.3g} steps of an operation's output, at {where}"
    cut = sorted((one for one in seen.cut.values() if one.share > 0), key=lambda one: -one.share)
    for one in cut[:_MOST_CUT]:
        share = f"{100 * one.share:.2g} % of the numbers at {printable(one.name)}"
        yield f"{share} are cut off: a range of {one.needs[0]:.3g} to {one.needs[1]:.3g} would hold all"
    if len(cut) > _MOST_CUT:
        yield f"at {len(cut) - _MOST_CUT} further of its {len(seen.cut)} ranges less is cut off"


_MOST_CUT = 4
"""Ranges of which it is said what they cut off; the worst of them."""
