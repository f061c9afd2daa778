"""What a graph calls a batch norm and no reader knows: operators of other domains, functions that stay functions.

Names that ONNX graphs have for it, besides BatchNormalization: BatchNormInternal and BatchNormalizationGrad
(com.microsoft, training), ATen with the operator batch_norm or native_batch_norm (org.pytorch.aten, aten), SpatialBN
(Caffe2), SyncBatchNorm, InplaceABN and others of whoever wrote an operator of his own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.norm_names import COMPILED, holds_compiled, is_called_norm
from bninspect.formats.onnx.inlining import DEPTH, Key, ModelFunction, key_of
from bninspect.formats.onnx.model import ModelProto, NodeProto
from bninspect.formats.onnx.norms import FoundNorms
from bninspect.records import Unread


def unread(model: ModelProto, norms: FoundNorms) -> Iterator[Unread]:
    """Yield what a model calls a batch norm, at any depth, that is none of those that were found."""
    nodes = [node for graph in model.graphs for node in graph.nodes]
    kept = Counter(node.key for node in nodes if node.key in model.functions)
    operators = Counter(name for node in nodes if node.key not in kept and (name := _foreign(node)))
    for name, count in operators.items():
        yield Unread(f"operator {name}", count, "what this operator computes is not known")
    for name in dict.fromkeys(node.op for node in nodes if holds_compiled(node.op)):
        yield Unread(f"operator {name}", 0, COMPILED)
    for key, calls in kept.items():
        count = calls * _count(model.functions[key].nodes, model.functions, 0)
        if count:
            why = "it is written for another version of the operators than the model"
            yield Unread(f"function {'::'.join(filter(None, key))}", count, why)
    holding = {prefix for norm in norms.found for label in norm.nodes for prefix in _prefixes(label)}
    empty = Counter(name for prefix, name in model.calls if is_called_norm(name) and prefix not in holding)
    for name, count in empty.items():
        yield Unread(f"function {name}", count, "its body holds no batch norm that is known")
    for place, count in norms.loose.items():
        yield Unread(place or "the main graph", count, "the root of a variance and epsilon, but not the rest of one")


def _prefixes(label: str) -> Iterator[str]:
    """Yield the prefixes of a name that may be those of a call: up to each slash."""
    return (label[: place + 1] for place, character in enumerate(label) if character == "/")


def _foreign(node: NodeProto) -> str:
    """Return the name of an operator that is called a batch norm and is not ONNX's own; empty for all others."""
    name = " ".join(filter(None, (node.op, node.text("operator"), node.text("name") if "::" in node.op else "")))
    return name if node.op != "BatchNormalization" and is_called_norm(name) else ""


def _count(nodes: Iterable[Message], functions: Mapping[Key, ModelFunction], depth: int) -> int:
    """Return how many batch norms the nodes of a function call, those in functions and graphs within them too."""
    if depth > DEPTH:
        return 0
    count = 0
    for node in nodes:
        called = functions.get(key_of(node))
        if called is not None:
            count += _count(called.nodes, functions, depth + 1)
        else:
            count += is_called_norm(node.text(4))
            graphs = (message.message(6) for message in node.messages(5) if message.has(6))
            count += sum(_count(graph.messages(1), functions, depth + 1) for graph in graphs)
    return count
