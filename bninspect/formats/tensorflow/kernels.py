"""What a signature of a SavedModel, or a frozen graph, computes: its linear operations with their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bninspect.errors import UnreadableFile
from bninspect.formats import bodies
from bninspect.formats.channel_chains import RELUS
from bninspect.formats.tensorflow import constants, frozen, model, saved_model, tensor
from bninspect.formats.tensorflow.checkpoint_v2 import Bundle
from bninspect.formats.tensorflow.graph.expressions import Expressions
from bninspect.formats.tensorflow.graph.flatten import HIDING, FlatGraph, FlatNode, Tensor
from bninspect.formats.tensorflow.model import GraphModel
from bninspect.formats.tensorflow.norms.layers import Searched
from bninspect.formats.tensorflow.norms.site import NormSite
from bninspect.formats.tensorflow.variables import Variables, restored_by
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Kernel, Network, Node, Value

_WEIGHTS = {
    "Conv1D": 1,
    "Conv2D": 1,
    "Conv3D": 1,
    "DepthwiseConv2dNative": 1,
    "Conv2DBackpropInput": 1,
    "Conv3DBackpropInputV2": 1,
    "MatMul": 1,
}
_DATA = {"Conv2DBackpropInput": 2, "Conv3DBackpropInputV2": 2}
"""Place of what flows, where it is not the first input."""
_BIASES = frozenset(("BiasAdd", "BiasAddV1", "Add", "AddV2"))
_PASSING = {
    **dict.fromkeys(("Identity", "StopGradient", "PreventGradient", "CheckNumerics", "EnsureShape"), "identity"),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), "reshape"),
    "Transpose": "transpose",
    "Cast": "cast",
}


def read_network(path: Path, signature: str | None = None, tag: str | None = None) -> Network:
    """Return what a signature of a SavedModel computes, or all of a frozen graph.

    Raises:
        UnreadableFile: the file is damaged.
        UsageError: there is no such signature or tag.
    """
    if not path.is_dir() and path.name != saved_model.GRAPH:
        opened = frozen.open_frozen(path)
        return _network(opened, Variables({}, None), signature)
    with _stored(path, tag) as (found, variables):
        return _network(found, variables, signature)


@contextmanager
def _stored(path: Path, tag: str | None) -> Iterator[tuple[GraphModel, Variables]]:
    prefix = saved_model.folder_of(path) / "variables" / "variables"
    with saved_model.open_saved_model(path, tag) as opened:
        restored = restored_by(opened.meta.graph, opened.meta.restore)
        if not prefix.with_name("variables.index").is_file():
            yield opened.model, Variables(restored, None)
            return
        with Bundle(prefix) as bundle:
            yield opened.model, Variables(restored, bundle)


@dataclass(frozen=True, eq=False)
class _Reading:
    graph: FlatGraph
    expressions: Expressions
    variables: Variables

    def constant(self, one: Tensor) -> Array | None:
        """Return the values of a parameter, or of what is computed from parameters alone; None for all others."""
        return constants.computed(one, self.graph, self._stored)

    def _stored(self, one: Tensor) -> Array | None:
        leaf = self.expressions.leaf(one)
        if leaf is None:
            return None
        try:
            return self.variables.value(self.graph, leaf)
        except UnreadableFile:
            return None  # of a type that no weight has


def _network(found: GraphModel, variables: Variables, signature: str | None) -> Network:
    searched = model.chosen(found, signature)
    reading = _Reading(searched.graph, Expressions(searched.graph), variables)
    sites = _sites(found, searched)
    axes = {one.layer.name: one.layer.axis[0] for one in found.layers if one.layer.axis and len(one.layer.axis) == 1}
    inside = {name for _, site in sites.values() for name in site.nodes}
    nodes: list[Node] = []
    for flat in searched.graph.nodes.values():
        if flat.name in sites:
            layer, site = sites[flat.name]
            own = searched.graph.nodes[flat.name]
            geometry = Geometry(channel_axis=axes.get(layer, _axis(own)))
            nodes.append(
                Node(layer, network.BATCH_NORM, (_name(site.x),), (_name(site.y),), layer=layer, geometry=geometry)
            )
        elif flat.name not in inside and flat.inputs:
            nodes.append(replace(_node(flat, reading), within=_within(flat, searched.graph)))
    outputs = tuple(Value(_name(output), (), "float32") for output in searched.graph.outputs)
    return Network((), outputs, tuple(_with_biases(nodes, reading)))


def _within(flat: FlatNode, graph: FlatGraph) -> int:
    """Return how many kernels and batch norms are in the functions of a loop, or of a branch that data chooses."""
    if flat.op not in HIDING or flat.hidden:
        return 0
    prefix = f"{flat.scope}{flat.node.name}/"
    return bodies.held(
        flat.op, (node.op for node in graph.nodes.values() if node.hidden and node.scope.startswith(prefix))
    )


def _sites(found: GraphModel, searched: Searched) -> Mapping[str, tuple[str, NormSite]]:
    """Return layer and site by the flat node that returns the site's y."""
    return {
        site.y[0]: (layer.layer.name, site)
        for layer in found.layers
        for site in layer.sites.get(searched.signature, ())
    }


def _name(one: Tensor) -> str:
    return f"{one[0]}:{one[1]}"


def _node(flat: FlatNode, reading: _Reading) -> Node:
    kernel, kind = _kernel(flat, reading)
    taken = [flat.inputs[_DATA.get(flat.op, 0)]] if kernel is not None else list(flat.inputs)
    if flat.op in _PASSING:
        taken = taken[:1]
    outputs = tuple(f"{flat.name}:{place}" for place in range(3))
    operation = kind or _PASSING.get(flat.op, flat.op.lower())
    padded = flat.node.text("padding") in {"SAME", "EXPLICIT"}
    return Node(
        flat.name,
        operation,
        tuple(map(_name, taken)),
        outputs,
        kernel,
        padded=padded,
        geometry=_geometry(flat, reading) if kernel is not None else None,
        limits=RELUS.get(operation),
        setting={"softmax": "axis -1", "sigmoid": "elementwise"}.get(operation, ""),
    )


def _axis(flat: FlatNode) -> int:
    """Return where an operation has its channels."""
    layout = flat.node.text("data_format")
    return 1 if layout.startswith("NC") and layout != "NC" else -1


def _geometry(flat: FlatNode, reading: _Reading) -> Geometry | None:
    """Return how an operation with a kernel moves over its input; None where it states what contradicts itself."""
    axis = _axis(flat)
    stored = None if flat.op == "MatMul" else reading.constant(flat.inputs[_WEIGHTS[flat.op]])
    if stored is None:
        return Geometry(channel_axis=axis)
    size = stored.shape[:-2]
    # Lists of one number for each axis, batch and channels included; of padding two.
    moved = slice(2, None) if axis == 1 else slice(1, -1)
    strides, dilations = (flat.node.integers(name)[moved] or (1,) * len(size) for name in ("strides", "dilations"))
    word = flat.node.text("padding")
    ends = flat.node.integers("explicit_paddings")
    both = tuple(zip(ends[::2], ends[1::2], strict=False))[moved]
    padding = "same" if word == "SAME" else both if word == "EXPLICIT" else ((0, 0),) * len(size)
    if any(len(one) != len(size) for one in (strides, dilations)) or (word == "EXPLICIT" and len(both) != len(size)):
        return None
    return Geometry(size, strides, padding, dilations, channel_axis=axis)


def _kernel(flat: FlatNode, reading: _Reading) -> tuple[Kernel | None, str]:
    """Return the constants of a linear operation and what kind it is; (None, "") for everything else."""
    kernel, kind = _of_weights(flat, reading)
    dtype = tensor.float_name(flat.node.dtype("T"))
    return (replace(kernel, dtype=dtype, narrow=True) if kernel and dtype in network.NARROW else kernel), kind


def _of_weights(flat: FlatNode, reading: _Reading) -> tuple[Kernel | None, str]:
    """Return the constants of a linear operation in our order, as they are stored, and what kind it is."""
    place = _WEIGHTS.get(flat.op)
    stored = None if place is None or place >= len(flat.inputs) else reading.constant(flat.inputs[place])
    if stored is None or stored.ndim < 2 or stored.dtype.kind != "f":
        return None, ""
    if flat.op == "MatMul":
        if flat.node.flag("transpose_a", default=False):
            return None, ""
        weights = stored.T if flat.node.flag("transpose_b", default=False) else stored
        return Kernel(network.dense(weights)), network.DENSE
    inputs, outputs = stored.shape[-2:]
    if flat.op == "DepthwiseConv2dNative":  # (height, width, inputs, multiplier)
        return Kernel(stored.reshape(-1, 1, inputs * outputs), None, inputs), network.DEPTHWISE
    if flat.op.endswith(("BackpropInput", "BackpropInputV2")):  # (places..., outputs, inputs)
        return Kernel(np.swapaxes(stored, -1, -2).reshape(-1, outputs, inputs)), network.TRANSPOSED
    # TensorFlow finds the groups of a convolution in the channels that come in.
    return Kernel(stored.reshape(-1, inputs, outputs), None, 0), network.CONVOLUTION


def _with_biases(nodes: list[Node], reading: _Reading) -> Iterator[Node]:
    """Join each linear operation with the addition of a bias that alone reads its result."""
    makers = {output: node for node in nodes for output in node.outputs[:1]}
    joined: dict[str, Node] = {}
    gone: set[str] = set()
    for node in nodes:
        flat = reading.graph.nodes.get(node.name)
        if flat is None or flat.op not in _BIASES or len(flat.inputs) != 2:
            continue
        for x, other in (flat.inputs, flat.inputs[::-1]):
            before = makers.get(_name(x))
            if before is None or before.kernel is None or before.kernel.bias is not None:
                continue
            bias = reading.constant(other) if reading.expressions.uses(x[0]) == 1 else None
            if bias is not None and bias.size == before.kernel.outputs == max(bias.shape, default=1):
                kernel = replace(before.kernel, bias=bias.reshape(-1))
                joined[before.name] = replace(before, kernel=kernel, outputs=node.outputs)
                gone.add(node.name)
                break
    return (joined.get(node.name, node) for node in nodes if node.name not in gone)
