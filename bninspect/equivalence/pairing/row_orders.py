"""The order in which a dense layer takes a flattened map: channel by channel, or place by place.

A map of C channels and S places is flattened as it is stored. Frameworks that have the channels in front and those
that have them behind so flatten the same map into different orders, and who ports a model moves the rows of the dense
layer's kernel, or turns the map back before it. Both are right: with the rows moved, input r of one is input rows[r]
of the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bninspect.records import Array
from bninspect.records.graph import DENSE, Network, Node


def of_dense(operation: Node, network: Network) -> Iterator[Array]:
    """Yield the other orders of the inputs of a dense layer, as shape (inputs,): there may be two, or none.

    Args:
        operation: the dense layer.
        network: what it is in; the nearest operation before it that has channels says how many.
    """
    channels = _channels_before(operation, network)
    inputs = 0 if operation.kernel is None else operation.kernel.weights.shape[1]
    if channels < 2 or inputs % channels or inputs // channels < 2:
        return
    index = np.arange(inputs)
    yield index.reshape(channels, -1).T.reshape(-1)
    yield index.reshape(-1, channels).T.reshape(-1)


def _channels_before(operation: Node, network: Network) -> int:
    """Return the channels of the nearest operation before a dense layer that has any; 0 if there is none."""
    producers = network.producers()
    waiting, known = list(operation.inputs[:1]), set[str]()
    while waiting:
        value = waiting.pop(0)
        node = producers.get(value)
        if value in known or node is None:
            continue
        known.add(value)
        if node.kernel is not None:
            return 0 if node.operation == DENSE else node.kernel.outputs
        waiting += node.inputs
    return 0
