"""What a frozen TorchScript graph computes. Only torch can tell: the file holds source code, not a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.formats import channel_chains
from bninspect.formats.torch import operators
from bninspect.formats.torch.operators import OperatorCall
from bninspect.records import BatchNorm
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Network, Node, Value


def of_graph(graph: Any, names: dict[str, BatchNorm]) -> Network:
    """Return the operations of a frozen graph.

    Args:
        graph: of a frozen module.
        names: the stored layer by the name of the value that each batch norm returns.
    """
    taken = [source.debugName() for source in list(graph.inputs())[1:]]
    given = [output.debugName() for output in graph.outputs()]
    nodes = (_node(node, names) for node in graph.nodes() if not node.kind().startswith("prim::Constant"))
    return Network(
        tuple(Value(name, (), "float32") for name in taken),
        tuple(Value(name, (), "float32") for name in given),
        tuple(channel_chains.join(nodes, given)),
    )


def _node(node: Any, names: dict[str, BatchNorm]) -> Node:
    inputs, outputs = list(node.inputs()), [output.debugName() for output in node.outputs()]
    moving = tuple(source.debugName() for source in inputs if source.node().kind() != "prim::Constant")
    kind, name = node.kind(), outputs[0] if outputs else node.kind()
    if name in names:
        layer = names[name]
        geometry = Geometry(channel_axis=1)
        norm = Node(name, network.BATCH_NORM, moving[:1], (name,), norm_kernel(layer), layer.name)
        return replace(norm, norm=layer, geometry=geometry)
    if not kind.startswith("aten::"):
        return Node(name, kind, moving, tuple(outputs))
    arguments, dtypes = _arguments(node, inputs)
    return operators.node(OperatorCall(name, kind.removeprefix("aten::"), arguments, moving, tuple(outputs), dtypes))


def _arguments(node: Any, inputs: list[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments of a node by their names, constants as arrays of floats, and the types of these."""
    import torch

    names = [argument.name for argument in torch._C.parse_schema(node.schema()).arguments]  # noqa: SLF001 - no public way
    arguments: dict[str, Any] = {}
    dtypes: dict[str, str] = {}
    for name, value in zip(names, inputs, strict=False):
        if value.node().kind() == "prim::ListConstruct":
            arguments[name] = [source.toIValue() for source in value.node().inputs()]
        elif value.node().kind() != "prim::Constant":
            arguments[name] = value.debugName()
        elif isinstance(constant := value.toIValue(), torch.Tensor):
            if constant.dtype.is_floating_point:
                dtypes[name] = str(constant.dtype).removeprefix("torch.")
                arguments[name] = np.asarray(constant.detach().float().numpy())
        elif constant is not None:
            arguments[name] = constant
    return arguments, dtypes
