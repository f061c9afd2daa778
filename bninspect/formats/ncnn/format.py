"""The two files of ncnn: `model.param`, and `model.bin` beside it.

ncnn does not fold a batch norm that stands behind an activation; its converters do with one behind a convolution. Its
order is slope, mean, variance, bias. Epsilon is setting 1, **0 where that is missing**, and a root of zero becomes 1e-4
(src/layer/batchnorm.cpp): a converter that leaves epsilon out changes the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import channel_chains, whole_file
from bninspect.formats.channel_chains import Piece
from bninspect.formats.containers.siblings import sibling
from bninspect.formats.format import Format
from bninspect.formats.ncnn import param
from bninspect.formats.ncnn.weights import KINDS, Loaded, StoredWeights, load, moved_by
from bninspect.formats.tensorflow import files
from bninspect.records import Array, BatchNorm, Checkpoint
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Network, Node, Value

NAME = "ncnn"
_EMPTY = "no BatchNorm: its batch norms may be folded, which verify MODEL --against finds"
_NO_EPSILON = "the file does not state epsilon: ncnn takes 0"
_FUSED = {2: "leakyrelu", 4: "sigmoid", 5: "mish", 6: "hardswish"}
_BINARY = {0: "add", 1: "sub", 2: "mul", 3: "div"}
_PASSING = {
    **dict.fromkeys(("Split", "Dropout", "Noop"), "identity"),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "ExpandDims"), "reshape"),
    "Permute": "transpose",
    "Cast": "cast",
}


def _matches(_path: Path, head: bytes) -> bool:
    return head.lstrip()[:8].split() == [param.MAGIC.encode()]


def _read(path: Path) -> Checkpoint:
    with files.counted([path, beside(path)]) as counted:
        layers = tuple(norm(entry) for entry in parsed(path) if entry.layer.kind == "BatchNorm")
        size, digest = counted()
    return Checkpoint(str(path), NAME, "ncnn", layers, sha256=digest, bytes=size, empty=_EMPTY)


def beside(path: Path) -> Path:
    """Return the file of the weights. Raises as `sibling`."""
    return sibling(path.parent, f"{path.stem}.bin", str(path))


def parsed(path: Path) -> tuple[Loaded, ...]:
    """Return the layers of a model with what they load, in order. Raises as reading it."""
    text = whole_file.read(path, param.MOST_BYTES).decode("utf-8", "replace")
    stored = StoredWeights(whole_file.read(beside(path)))
    try:
        found = tuple(load(layer, stored) for layer in param.parse(text))
        stored.end()
    except (DamagedFile, UnsafeFile, UnreadableFile) as error:
        raise type(error)(f"{path} is not read", why=f"{error.what}: {error.why}", hint=error.hint) from error
    return found


def norm(loaded: Loaded) -> BatchNorm:
    """Return a BatchNorm layer as a record. Raises DamagedFile if its epsilon is not a number."""
    gamma, mean, variance, beta = loaded.tensors
    stated = loaded.layer.reals(1)
    return BatchNorm(
        loaded.layer.name,
        gamma,
        beta,
        mean,
        variance,
        # As float32, which ncnn computes with.
        epsilon=float(np.float32(stated[0])) if stated else 0.0,
        epsilon_source="file",
        axis=(1,),
        scale=True,
        center=True,
        location=loaded.layer.name,
        class_name="BatchNorm",
        notes=() if stated else (_NO_EPSILON,),
    )


def read_network(path: Path) -> Network:
    """Return what the layers compute. Raises as `parsed`."""
    loaded = parsed(path)
    constants = {
        entry.layer.outputs[0]: _shaped(entry)
        for entry in loaded
        if entry.layer.kind == "MemoryData" and len(entry.layer.outputs) == 1
    }
    computed = [entry for entry in loaded if entry.layer.kind not in {"Input", "MemoryData"}]
    nodes = [_piece(entry.layer, constants) or _node(entry) for entry in computed]
    given = [one.layer for one in loaded if one.layer.kind == "Input"]
    inputs = [Value(name, _shape(layer), "float32") for layer in given for name in layer.outputs]
    read = {name for one in loaded for name in one.layer.inputs}
    ends = [name for one in loaded for name in one.layer.outputs if name not in read]
    joined = tuple(channel_chains.join(nodes, ends))
    return Network(tuple(inputs), tuple(Value(name, (), "float32") for name in ends), joined)


def _shaped(loaded: Loaded) -> Array:
    """Return the numbers of a MemoryData with their channels first."""
    lengths = [loaded.layer.number(key) for key in (2, 11, 1, 0)]
    return loaded.tensors[0].reshape([length for length in lengths if length] or [0])


def _piece(layer: param.NcnnLayer, constants: Mapping[str, Array]) -> Node | None:
    """Return an operation that combines a value with a number per channel; None if it is another one.

    A constant of one axis runs along the first of what it meets, the channels (src/layer/binaryop.cpp).
    """
    known = [name for name in layer.inputs if name in constants]
    if layer.kind != "BinaryOp" or layer.number(0) not in _BINARY or len(layer.inputs) != 2 or len(known) != 1:
        return None
    first, second = layer.inputs
    constant = constants[known[0]]
    x = second if first in constants else first
    piece = Piece(layer.name, _BINARY[layer.number(0)], x, layer.outputs[0], constant, first in constants)
    node = channel_chains.scale_and_shift(piece)
    return replace(node, geometry=Geometry(channel_axis=1)) if node is not None and constant.ndim == 1 else node


def _shape(layer: param.NcnnLayer) -> tuple[int | None, ...]:
    """Return the shape of an input, batch included; empty where the file does not state it, which it need not."""
    lengths = [layer.number(key) for key in (2, 11, 1, 0)]
    return (1, *(length for length in lengths if length > 0)) if any(lengths) else ()


def _node(loaded: Loaded) -> Node:
    layer = loaded.layer
    if layer.kind == "BatchNorm":
        return Node(
            layer.name,
            network.BATCH_NORM,
            layer.inputs,
            layer.outputs,
            norm_kernel(norm(loaded)),
            layer=layer.name,
            norm=norm(loaded),
            geometry=Geometry(channel_axis=1),
        )
    kind, kernel = KINDS.get(layer.kind, _PASSING.get(layer.kind, layer.kind.lower())), loaded.kernel
    if layer.kind == "BinaryOp" and not layer.number(1):
        kind = _BINARY.get(layer.number(0), kind)
    if kernel is None:
        return Node(layer.name, kind, layer.inputs, layer.outputs, limits=_limits(layer))
    if kernel.groups > 1 and kernel.weights.shape[1] == 1 and kind == network.CONVOLUTION:
        kind = network.DEPTHWISE
    fused, geometry = layer.number(9), moved_by(layer)
    ends = (*layer.reals(10), 0.0, 0.0)[:2]
    limits = {1: ActivationLimits(0.0, float("inf")), 3: ActivationLimits(*ends)}.get(fused)
    return Node(
        layer.name,
        kind,
        layer.inputs,
        layer.outputs,
        kernel,
        activation=_FUSED.get(fused, f"activation {fused}") if fused and limits is None else "",
        padded=geometry is not None and (isinstance(geometry.padding, str) or any(map(any, geometry.padding))),
        geometry=geometry,
        limits=limits,
    )


def _limits(layer: param.NcnnLayer) -> ActivationLimits | None:
    if layer.kind == "ReLU" and not any(layer.reals(0)):
        return ActivationLimits(0.0, float("inf"))
    if layer.kind == "Clip":
        low, high = (*layer.reals(0), -float("inf"))[0], (*layer.reals(1), float("inf"))[0]
        return ActivationLimits(low, high)
    return None


FORMAT = Format(NAME, "ncnn (.param with .bin)", (".param",), _matches, _read, read_network)
