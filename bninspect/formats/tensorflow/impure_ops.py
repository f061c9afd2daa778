"""What a graph would do besides computing, if it ran: every operation that is not on the allowlist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bninspect.formats.tensorflow.graph.flatten import FlatGraph, flatten
from bninspect.formats.tensorflow.graph.graph_def import GraphDef, MetaGraph, NodeDef
from bninspect.formats.tensorflow.op_lists import CALLING, PURE
from bninspect.safe_text import printable

_RESTORING = frozenset(("RestoreV2", "RestoreSlice", "Restore"))
_PASSING = frozenset(("Identity", "PlaceholderWithDefault"))


def impure(graph: GraphDef, starts: Iterable[str]) -> tuple[str, ...]:
    """Return what runs besides pure computation when `starts` are fetched, as `op ReadFile 'node'`.

    Args:
        graph: the graph.
        starts: tensors or operations.

    Raises:
        DamagedFile: the graph calls a function that it does not have.
    """
    allowed = PURE | graph.library.keys()
    return _listed(node for node in _running(graph, starts) if node.op not in allowed)


def impure_restore(meta: MetaGraph) -> tuple[str, ...]:
    """Return the same of a graph's restore operation, which may read the checkpoint beside the graph and no other file.

    Raises:
        UnreadableFile: the graph is damaged.
    """
    if not meta.restore:
        return ()
    flat = flatten(meta.graph, [meta.restore], control=True)
    reads = [node for node in flat.nodes.values() if node.op in _RESTORING]
    own = {id(node.node) for node in reads if node.inputs and _is_filename(flat, node.inputs[0][0], meta.filename)}
    allowed = PURE | meta.graph.library.keys()
    return _listed(
        node for node in _running(meta.graph, [meta.restore]) if node.op not in allowed and id(node) not in own
    )


def _is_filename(graph: FlatGraph, name: str, filename: str) -> bool:
    wanted = filename.partition(":")[0]
    node = graph.nodes[name]
    while node.name != wanted and node.op in _PASSING and node.inputs:
        node = graph.nodes[node.inputs[0][0]]
    return node.name == wanted


def _running(graph: GraphDef, starts: Iterable[str]) -> Iterator[NodeDef]:
    """Yield the nodes that `starts` need, by data or control, and all of every function that may be called.

    All, not what a function's result depends on: operations with an effect run as soon as their function is called.
    """
    waiting = [_node_name(start) for start in starts]
    seen: set[str] = set()
    functions: list[str] = []
    while waiting:
        name = waiting.pop()
        if name not in seen and name in graph.nodes:
            seen.add(name)
            node = graph.nodes[name]
            yield node
            functions += _called(graph, node)
            waiting += [_node_name(source) for source in node.inputs]
    called: set[str] = set()
    while functions:
        function = functions.pop()
        if function not in called:
            called.add(function)
            for node in graph.function(function).nodes.values():
                yield node
                functions += _called(graph, node)


def _called(graph: GraphDef, node: NodeDef) -> Iterator[str]:
    if node.op not in PURE or node.op in CALLING:  # Attributes of the others hold no function.
        yield from (function for _, function in node.functions())
    if node.op in graph.library:
        yield node.op


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _listed(nodes: Iterable[NodeDef]) -> tuple[str, ...]:
    """Return the first node of each operation."""
    first: dict[str, str] = {}
    for node in nodes:
        first.setdefault(node.op, node.name)
    return tuple(f"op {printable(op)} {printable(name)!r}" for op, name in first.items())
