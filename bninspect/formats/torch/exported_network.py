"""What an exported program computes, for holding it against another model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.formats.torch.exported_graph import ExportedCall, tensor_names, tensors_of
from bninspect.formats.torch.exported_norms import norms_of
from bninspect.formats.torch.exported_program import TYPES, ExportedProgram, open_program, reading
from bninspect.records import graph as network
from bninspect.records.graph import Kernel, Network, Node, Value

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive

_SAME = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze"), "reshape"),
    **dict.fromkeys(("dropout", "clone", "alias", "detach", "contiguous"), "identity"),
    **dict.fromkeys(("permute", "transpose"), "transpose"),
    "_assert_tensor_metadata": "assertion",
}


def read_network(archive: Archive, folder: str) -> Network:
    """Return what the exported graph computes. Raises as `exported_norms.read`."""
    with reading(archive.label):
        program = open_program(archive, folder)
        values = program.graph["tensor_values"]
        takes = [name for argument in program.graph["inputs"] for name in tensors_of(argument)]
        gives = [name for argument in program.graph["outputs"] for name in tensors_of(argument)]
        norms = {norm.call.name: norm.layer for norm in norms_of(program)[0]}
        nodes = []
        for call in program.calls:
            if call.inside:
                continue
            if call.name in norms:
                layer = norms[call.name]
                kernel, names = norm_kernel(layer), (call.arguments["input"],)
                nodes.append(Node(call.name, network.BATCH_NORM, names, call.outputs[:1], kernel, layer.name))
            else:
                nodes.append(_node(program, call))
        return Network(
            inputs=tuple(_value(name, values[name]) for name in takes if name not in program.taken),
            outputs=tuple(_value(name, values[name]) for name in gives if name in values),
            nodes=tuple(nodes),
        )


def _node(program: ExportedProgram, call: ExportedCall) -> Node:
    inputs = tuple(name for name in tensor_names(call) if name not in program.stored)
    kernel, kind = _kernel(program, call)
    padding = call.arguments.get("padding", 0)
    padded = kernel is not None and padding != "valid" and any(padding if isinstance(padding, list) else [padding])
    operation = kind or _SAME.get(call.operation, call.operation)
    return Node(call.name, operation, inputs, call.outputs, kernel, padded=padded)


def _kernel(program: ExportedProgram, call: ExportedCall) -> tuple[Kernel | None, str]:
    """Return the constants of a linear operation and what kind of one it is; (None, "") for all others."""
    operation, arguments = call.operation, call.arguments
    weight = program.array(arguments.get("weight")) if isinstance(arguments.get("weight"), str) else None
    if weight is None:
        return None, ""
    bias, groups = program.array(arguments.get("bias")), int(arguments.get("groups") or 1)
    if operation == "linear":
        return Kernel(network.dense(weight.T), bias), network.DENSE
    flipped = operation.startswith("conv_transpose") or (operation == "convolution" and arguments.get("transposed"))
    if flipped:
        return Kernel(network.transposed(weight, groups), bias, groups), network.TRANSPOSED
    if operation in {"conv1d", "conv2d", "conv3d", "convolution"}:
        kind = network.DEPTHWISE if groups > 1 and weight.shape[1] == 1 else network.CONVOLUTION
        return Kernel(network.convolution(weight, groups), bias, groups), kind
    return None, ""


def _value(name: str, meta: Mapping[str, Any]) -> Value:
    shape = tuple(int(length["as_int"]) if "as_int" in length else None for length in meta["sizes"])
    return Value(name, shape, TYPES.get(meta["dtype"], "unread"))
