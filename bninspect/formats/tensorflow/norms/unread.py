"""Calls of batch norm that the graph makes and that are not layers: what this reader cannot take apart must be seen.

TensorFlow's operations for it are FusedBatchNorm, V2 and V3, BatchNormWithGlobalNormalization of TF 0.x, and
QuantizedBatchNormWithGlobalNormalization of the quantised graphs of TF 1; Grappler makes _FusedBatchNormEx,
_FusedConv2D and their _Mkl twins of them; XLA and other libraries have operations of their own. Those that fused.py
does not take for a layer are counted here. So is what is spelt out as Darknet does it, with epsilon outside the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bninspect.formats.norm_names import COMPILED, holds_compiled
from bninspect.formats.tensorflow import scopes
from bninspect.formats.tensorflow.graph.expressions import Expressions
from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode
from bninspect.formats.tensorflow.norms.site import NormSite, shortest
from bninspect.records import Unread

_CALL = re.compile(r"batch_?norm(?!.*grad)", re.IGNORECASE)
_FUSED = re.compile(r"FusedBatchNorm(V[23])?\Z")
_ADDING = ("Add", "AddV2")
_DIVIDING = ("RealDiv", "Div", "Reciprocal", "Inv", "DivNoNan")


def unread(graph: FlatGraph, expressions: Expressions, sites: Sequence[NormSite]) -> Iterator[Unread]:
    """Yield the calls of batch norm in a graph that are none of its layers.

    Args:
        graph: the graph.
        expressions: of its nodes.
        sites: its layers.
    """
    known = {name for site in sites for name in site.nodes}
    read = {graph.nodes[name].node.name for site in sites for leaf in site.parameters.values() for name in leaf.sources}
    divided = {name for node in graph.nodes.values() if node.op in _DIVIDING for name, _ in node.inputs[-1:]}
    for node in graph.nodes.values():
        if node.name in known:
            continue
        if _CALL.search(node.op) and (why := _why(node)):
            yield Unread(node.node.name, 1, why)
        elif holds_compiled(node.op):
            yield Unread(f"operation {node.op} {node.node.name}", 0, COMPILED)
        elif node.op in _ADDING and node.name in divided and (found := _outside(node, graph, expressions)):
            epsilon, variance = found
            if variance in read:
                continue
            reason = f"it is spelt out with epsilon outside the square root: sqrt(variance) + {epsilon:g}"
            yield Unread(scopes.common_scope([variance]) or scopes.scope_of(node.node.name), 1, reason)


def _why(node: FlatNode) -> str:
    """Return why an operation is not a layer; empty if it is not a batch norm."""
    # What is left of these normalises samples: Keras computes layer and group normalisation by them.
    return "" if _FUSED.match(node.op) else f"operation {node.op} is not taken apart"


def _outside(node: FlatNode, graph: FlatGraph, expressions: Expressions) -> tuple[float, str] | None:
    """Return the epsilon of sqrt(variance) + epsilon and which parameter the variance is; None if it is none."""
    for root, other in (node.inputs, node.inputs[::-1]):
        source = graph.nodes[root[0]]
        epsilon = expressions.number(other)
        if source.op == "Sqrt" and source.inputs and epsilon and 0 < epsilon < 1:
            leaf = expressions.leaf(source.inputs[0])
            if leaf is not None and expressions.is_named(leaf):
                return shortest(epsilon), graph.nodes[leaf.sources[0]].node.name
    return None
