"""What a frozen TorchScript graph computes. Only torch can tell: the file holds source code, not a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.records import Array, BatchNorm
from bninspect.records import graph as network
from bninspect.records.graph import Kernel, Network, Node, Value

_SAME = {
    **dict.fromkeys(("aten::view", "aten::reshape", "aten::flatten", "aten::squeeze", "aten::unsqueeze"), "reshape"),
    **dict.fromkeys(("aten::dropout", "aten::contiguous", "aten::clone", "aten::alias", "aten::detach"), "identity"),
    **dict.fromkeys(("aten::permute", "aten::transpose"), "transpose"),
}


def of_graph(graph: Any, names: dict[str, BatchNorm]) -> Network:
    """Return the operations of a frozen graph.

    Args:
        graph: of a frozen module.
        names: the stored layer by the name of the value that each batch norm returns.
    """
    nodes = tuple(_node(node, names) for node in graph.nodes() if not node.kind().startswith("prim::Constant"))
    taken = [one.debugName() for one in list(graph.inputs())[1:]]
    given = [one.debugName() for one in graph.outputs()]
    return Network(
        tuple(Value(name, (), "float32") for name in taken),
        tuple(Value(name, (), "float32") for name in given),
        nodes,
    )


def _node(node: Any, names: dict[str, BatchNorm]) -> Node:
    inputs, outputs = list(node.inputs()), [one.debugName() for one in node.outputs()]
    moving = tuple(one.debugName() for one in inputs if one.node().kind() != "prim::Constant")
    kind, name = node.kind(), outputs[0] if outputs else node.kind()
    if name in names:
        layer = names[name]
        return Node(name, network.BATCH_NORM, moving[:1], (name,), norm_kernel(layer), layer.name)
    kernel, operation, padded = _kernel(kind, inputs)
    if kernel is not None:
        return Node(name, operation, (inputs[0].debugName(),), (name,), kernel, padded=padded)
    return Node(name, _SAME.get(kind, kind.removeprefix("aten::")), moving, tuple(outputs))


def _kernel(kind: str, inputs: list[Any]) -> tuple[Kernel | None, str, bool]:
    """Return the constants of a linear operation, what kind it is, and whether it is padded."""
    if kind not in {"aten::_convolution", "aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::linear"}:
        return None, "", False
    weight, bias = _constant(inputs[1]), _constant(inputs[2])
    if weight is None:
        return None, "", False
    if kind == "aten::linear":
        return Kernel(network.dense(weight.T), bias), network.DENSE, False
    whole = kind == "aten::_convolution"  # (..., stride, padding, dilation, transposed, output_padding, groups ...)
    groups = int(inputs[8 if whole else 6].toIValue())
    padding = inputs[4].toIValue()
    padded = any(padding) if isinstance(padding, (list, tuple)) else padding not in {0, "valid", None}
    if whole and inputs[6].toIValue():
        return Kernel(network.transposed(weight, groups), bias, groups), network.TRANSPOSED, padded
    kind = network.DEPTHWISE if groups > 1 and weight.shape[1] == 1 else network.CONVOLUTION
    return Kernel(network.convolution(weight, groups), bias, groups), kind, padded


def _constant(value: Any) -> Array | None:
    if value.node().kind() != "prim::Constant" or value.type().kind() == "NoneType":
        return None
    found: Array = np.asarray(value.toIValue().detach().float().numpy())
    return found
