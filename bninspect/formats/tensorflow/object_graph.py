"""The graphs of Python objects beside the variables: whose attribute each variable is.

tensorflow/core/protobuf/trackable_object_graph.proto (in a checkpoint, under `KEY`) and saved_object_graph.proto (in a
SavedModel). Both are lists of nodes; a node's children have names, the first node is the root, and two names may lead
to one node. Walked breadth first, so that a node's path is a shortest one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.tensorflow import scopes

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "VARIABLE_VALUE"

STATISTICS = ("moving_mean", "moving_variance")


class Object:
    """A node of either graph."""

    def __init__(self, message: Message) -> None:
        self.message = message

    @cached_property
    def children(self) -> Mapping[str, int]:
        """The numbers of the nodes that are its attributes, by their names."""
        return {child.text(2): child.integer(1) for child in self.message.messages(1)}


def objects(graph: Message) -> Sequence[Object]:
    """Return the nodes of a TrackableObjectGraph or SavedObjectGraph."""
    return [Object(node) for node in graph.messages(1)]


def paths(graph: Sequence[Object]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield every node that can be reached, nearest first, with the names on the way to it."""
    waiting: deque[tuple[int, tuple[str, ...]]] = deque([(0, ())] if graph else [])
    seen = {0}
    while waiting:
        number, path = waiting.popleft()
        yield number, path
        for name, child in graph[number].children.items():
            if child not in seen and 0 <= child < len(graph):
                seen.add(child)
                waiting.append((child, (*path, name)))


def checkpoint_key(node: Object) -> tuple[str, str]:
    """Return under which name the checkpoint holds the value of a variable, and its own name; empty if it is none."""
    found = {message.text(1): (message.text(3), message.text(2)) for message in node.message.messages(2)}
    return found.get(VALUE, ("", ""))


def norm_keys(graph: Sequence[Object], node: Object) -> Mapping[str, str]:
    """Return the checkpoint keys of an object's gamma, beta and statistics.

    What they are the attributes say, or else the variables' own names: `self.m = tf.Variable(0.0, name="moving_mean")`.
    """
    keys: dict[str, str] = {}
    named: dict[str, str] = {}
    for attribute, child in node.children.items():
        key, name = checkpoint_key(graph[child]) if 0 <= child < len(graph) else ("", "")
        if key and not attribute.isdecimal():  # A list of variables is not a layer.
            keys[attribute] = key
            named.setdefault(name.removesuffix(":0").rpartition("/")[2], key)
    for known in (keys, named):
        parts = scopes.norms(known).get(scopes.NAMELESS)
        if parts is not None:
            return {standard: known[name] for standard, name in parts.items()}
    return {}


def norms(graph: Sequence[Object]) -> Iterator[tuple[tuple[str, ...], Mapping[str, str]]]:
    """Yield the path and the checkpoint keys of every object that has both moving statistics."""
    for number, path in paths(graph):
        keys = norm_keys(graph, graph[number])
        if keys:
            yield path, keys


def walk_together(saved: Sequence[Object], stored: Sequence[Object]) -> Mapping[int, int]:
    """Return which node of the checkpoint's graph each node of the SavedModel's is.

    The second is larger: functions and constants have no values. Their numbers differ, the names of children do not.
    """
    pairs = {0: 0} if saved and stored else {}
    waiting = deque(pairs)
    while waiting:
        number = waiting.popleft()
        for name, child in saved[number].children.items():
            partner = stored[pairs[number]].children.get(name)
            if partner is not None and child not in pairs and 0 <= child < len(saved) and 0 <= partner < len(stored):
                pairs[child] = partner
                waiting.append(child)
    return pairs
