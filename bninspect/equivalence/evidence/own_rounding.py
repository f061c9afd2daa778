"""What a model that computes in half precision rounds itself, on the way to a value that its export need not round.

A converter may leave out the casts to half precision: then the export is nearer to the formula than the model is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.replay import Comparing, Given
from bninspect.equivalence.evidence.slack import Slack
from bninspect.equivalence.folding import U
from bninspect.records import Array
from bninspect.records.graph import leading_to


def own_rounding(labels: Iterable[str], given: Given, how: Comparing) -> Mapping[str, float]:
    """Return by how much rounding in the model itself may have moved each value, infinite where nobody knows.

    Args:
        labels: of the source, of values that it computed from what it was given.
        given: the values that it started from.
        how: what everything is compared with.
    """
    network, labels = how.source, list(labels)
    if network is None or not any(node.kernel is not None and node.kernel.narrow for node in network.nodes):
        return {}
    nodes = leading_to(labels, network, given.arrays)
    names = {name for node in nodes for name in (*node.inputs, *node.outputs[:1])}
    values: dict[str, Array] = {**how.replay(how.data, given.arrays, names), **given.arrays}
    if all(tensors.unit(one) <= U for one in values.values()):
        return {}
    slack = Slack(network, values, given.arrays)
    return {label: slack.arriving(label) for label in labels}
