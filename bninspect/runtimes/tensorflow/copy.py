"""The flat graph in a TensorFlow session: what the loaded graph does not hold as it is, is added to it.

The loaded graph calls functions, whose insides nobody can fetch, and chooses between branches. The flat graph of our
reader does neither. Its nodes that come from inside functions, and those behind them, are added as a copy. Variables,
tables, constants and inputs are not copies: they are those that TensorFlow's loader has restored and will be fed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode, Tensor, reached
from bninspect.formats.tensorflow.norms.site import NormSite

_SCOPE = "bninspect"
# What another place in the graph, or another shape of the input, would contradict.
_LEFT_OUT = ("_class", "_output_shapes", "shared_name_prefix")


class Copy:
    """The tensors of a flat graph in the current TensorFlow graph.

    Args:
        flat: of a graph that TensorFlow has loaded into the current graph.
        wanted: tensors that will be asked for.
    """

    def __init__(self, flat: FlatGraph, wanted: Iterable[Tensor]) -> None:
        import tensorflow as tf

        self._flat = flat
        self._graph = tf.compat.v1.get_default_graph()
        changed = flat.changed()
        needed = [node for node in reached(flat, {name for name, _ in wanted}) if node.name in changed]
        self._copied = {node.name for node in needed}
        add([(node.name, node, node.inputs) for node in needed], self._copied, _SCOPE, self.tensor)

    @property
    def is_empty(self) -> bool:
        """Whether the loaded graph holds everything that was asked for."""
        return not self._copied

    def tensor(self, one: Tensor) -> Any:
        """Return the TensorFlow tensor that computes a tensor of the flat graph."""
        name, position = one
        full = f"{_SCOPE}/{name}" if name in self._copied else self._flat.nodes[name].node.name
        return self._graph.get_tensor_by_name(f"{full}:{position}")

    def alone(self, sites: Mapping[str, NormSite]) -> dict[str, tuple[Any, Any]]:
        """Add each site's own operations once more, behind a placeholder; return this and the tensor that is y."""
        import tensorflow as tf

        pairs = {}
        for number, (name, site) in enumerate(sites.items()):
            scope = f"{_SCOPE}_{number}"
            x = tf.compat.v1.placeholder(self.tensor(site.x).dtype, None, f"{scope}_x")
            nodes = [(node, self._flat.nodes[node], self._flat.nodes[node].inputs) for node in site.nodes]
            own = set(site.nodes)

            def outside(one: Tensor, x: Any = x, site: NormSite = site) -> Any:
                return x if one == site.x else self.tensor(one)

            add(nodes, own, scope, outside)
            pairs[name] = (x, self._graph.get_tensor_by_name(f"{scope}/{site.y[0]}:{site.y[1]}"))
        return pairs


def add(
    nodes: Iterable[tuple[str, FlatNode, tuple[Tensor, ...]]],
    own: set[str],
    scope: str,
    outside: Any,
    given: Collection[Tensor] = (),
) -> None:
    """Add nodes to the current graph; what they take from others comes from `outside`, and what is `given` as well."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    mapped = {}
    for name, node, inputs in nodes:
        added = graph.node.add()
        added.MergeFromString(bytes(node.node.data))
        added.name, added.device = name, ""
        for attribute in _LEFT_OUT:
            added.attr.pop(attribute, None)
        del added.input[:]
        for source in inputs:
            reference = f"{source[0]}:{source[1]}"
            if source in given:
                # A name that no node has: the node itself is there too, for what it computes.
                reference = f"given/{source[0]}:{source[1]}"
            if source in given or source[0] not in own:
                mapped[reference] = outside(source)
            added.input.append(reference)
    if graph.node:
        tf.import_graph_def(graph, input_map=mapped, name=scope)
