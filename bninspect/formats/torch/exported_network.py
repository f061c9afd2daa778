"""What an exported program computes, for holding it against another model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.formats import bodies, channel_chains
from bninspect.formats.torch import operators
from bninspect.formats.torch.exported_graph import ExportedCall, tensor_names, tensors_of
from bninspect.formats.torch.exported_norms import norms_of
from bninspect.formats.torch.exported_program import TYPES, ExportedProgram, open_program, reading
from bninspect.formats.torch.operators import OperatorCall
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Network, Node, Value

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive


def read_network(archive: Archive, folder: str) -> Network:
    """Return what the exported graph computes. Raises as `exported_norms.read`."""
    with reading(archive.label):
        program = open_program(archive, folder)
        values = program.graph["tensor_values"]
        takes = [name for argument in program.graph["inputs"] for name in tensors_of(argument)]
        gives = [name for argument in program.graph["outputs"] for name in tensors_of(argument)]
        norms = {norm.calls[-1].name: norm for norm in norms_of(program)[0] if norm.x}
        inner = {call.name for norm in norms.values() for call in norm.calls[:-1]}
        turned = dict(_turned(program))
        nodes = []
        for call in program.calls:
            if call.inside or call.name in inner or not call.outputs:
                continue  # what returns nothing asserts something
            if call.name in norms:
                layer = norms[call.name].layer
                kernel, names = norm_kernel(layer), (norms[call.name].x,)
                geometry = Geometry(channel_axis=layer.axis[0] if layer.axis else 1)
                outputs = call.outputs[:1]
                norm = Node(call.name, network.BATCH_NORM, names, outputs, kernel, layer.name)
                nodes.append(replace(norm, norm=layer, geometry=geometry))
            else:
                nodes.append(replace(_node(program, call, turned), within=_within(program, call)))
        return Network(
            inputs=tuple(_value(name, values[name]) for name in takes if name not in program.taken),
            outputs=tuple(_value(name, values[name]) for name in gives if name in values),
            nodes=tuple(channel_chains.join(nodes, gives)),
        )


def _within(program: ExportedProgram, call: ExportedCall) -> int:
    """Return how many kernels and batch norms are in the graphs of a call."""
    inner = (one.operation for one in program.calls if one.inside and one.inside[0].startswith(f"{call.name}."))
    return bodies.held(call.operation, inner)


def _turned(program: ExportedProgram) -> Iterator[tuple[str, str]]:
    """Yield the values that are a stored matrix with its axes exchanged, as `linear` is taken apart: with its name."""
    for call in program.calls:
        value, dims = call.arguments.get("self"), call.arguments.get("dims")
        exchanged = call.operation == "t" or (call.operation == "permute" and dims == [1, 0])
        if exchanged and call.outputs and isinstance(value, str) and all(program.parameter(value)):
            yield call.outputs[0], value


def _node(program: ExportedProgram, call: ExportedCall, turned: Mapping[str, str]) -> Node:
    inputs = tuple(name for name in tensor_names(call) if name not in program.stored)
    arguments, dtypes = dict(call.arguments), {}
    for name, value in call.arguments.items():
        source = turned.get(value, value) if isinstance(value, str) else ""
        stored, plain = program.parameter(source) if source else ("", False)
        if stored and plain and program.dtype(stored).startswith(("float", "bfloat")):
            array = program.array(source)
            arguments[name], dtypes[name] = array, program.dtype(stored)
            if array is not None and source != value:
                arguments[name] = array.T
            inputs = tuple(one for one in inputs if one != value)
    return operators.node(OperatorCall(call.name, call.operation, arguments, inputs, call.outputs, dtypes))


def _value(name: str, meta: Mapping[str, Any]) -> Value:
    shape = tuple(int(length["as_int"]) if "as_int" in length else None for length in meta["sizes"])
    return Value(name, shape, TYPES.get(meta["dtype"], "unread"))
