"""Values and kernels in blocks of channels, as ONNX Runtime's optimiser writes them for the processor that it runs on.

In com.microsoft.nchwc a value holds 8 or 16 channels of a place side by side, the last block filled up with zeros, and
its shape has the channels of all blocks. A kernel (outputs, inputs, height, width) is stored as blocks of outputs and
inputs, OIHWBiBo, or of outputs alone where the input is not blocked or each channel has a kernel of its own, OIHWBo
(onnxruntime/core/mlas/lib/reorder.cpp, core/optimizer/nchwc_transformer.cc).

A file says neither how long its blocks are nor how many channels a value has that is not reordered back. The first is
that of the runtime which runs it, or known where only one length of block gives the shapes that are there; the second
is that of the last channel that is not zero in all that makes and takes a value. Where nothing is known nothing is
read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from bninspect.formats.onnx.constants import Constant, Constants
from bninspect.records import Array

if TYPE_CHECKING:
    from bninspect.formats.onnx.model import GraphProto, NodeProto

DOMAIN = "com.microsoft.nchwc::"
CONVOLUTION, TO_BLOCKS, FROM_BLOCKS = (DOMAIN + name for name in ("Conv", "ReorderInput", "ReorderOutput"))
_LENGTHS = (8, 16)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocked values of a graph, and its kernels as ONNX has them."""

    channels: Mapping[str, int] = field(default_factory=dict)
    """How many channels each blocked value has."""
    kernels: Mapping[str, Constant] = field(default_factory=dict)
    """Weights and biases by the names of the constants."""


def find(graph: GraphProto, constants: Constants, block: int = 0) -> Blocks:
    """Return what is blocked; nothing where nothing is, or where the file does not tell how.

    Args:
        graph: of a model.
        constants: of the graph.
        block: how long the blocks are of the runtime that is to run it; 0 where none is.
    """
    convolutions = [node for node in graph.nodes if node.op == CONVOLUTION]
    weights = {node.takes(1): one for node in convolutions if (one := constants.get(node.takes(1))) is not None}
    if not convolutions or len(weights) < len(convolutions) or any(one.values.ndim != 4 for one in weights.values()):
        return Blocks()
    shapes = {name: one.values.shape for name, one in weights.items()}
    groups = _groups(graph, shapes)
    stated = {} if groups is None else _stated(graph, shapes, groups)
    fitting = [
        length
        for length in ((block,) if block else _LENGTHS)
        if groups is not None
        and all(_fits(node, shapes[node.takes(1)], length, groups, stated) for node in convolutions)
    ]
    if groups is None or len(fitting) != 1:
        return Blocks()
    kernels = {
        node.takes(1): _unblocked(weights[node.takes(1)].values, node, fitting[0], blocked=node.takes(0) in groups)
        for node in convolutions
    }
    counts = dict(stated)
    for node in convolutions:
        for value, most in _not_zero(node, kernels[node.takes(1)], constants):
            if groups.get(value, "") in stated:
                if most > stated[groups[value]]:
                    return Blocks()
            elif value in groups:
                counts[groups[value]] = max(counts.get(groups[value], 1), most)
    channels = {value: counts[group] for value, group in groups.items() if group in counts}
    found: dict[str, Constant] = {}
    for node in convolutions:
        outputs, inputs = channels[node.outputs[0]], channels.get(node.takes(0)) if _is_whole(node) else None
        found[node.takes(1)] = replace(weights[node.takes(1)], values=kernels[node.takes(1)][:outputs, :inputs])
        bias = constants.get(node.takes(2))
        if bias is not None:
            found[node.takes(2)] = replace(bias, values=bias.values[:outputs])
    return Blocks(channels, found)


def _stated(graph: GraphProto, shapes: Mapping[str, tuple[int, ...]], groups: Mapping[str, str]) -> dict[str, int]:
    """Return of which values it is stated how many channels they have; 0 where that contradicts itself."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == FROM_BLOCKS:
            said = [(node.takes(0), node.integer("channels", 0))]
        elif node.op == CONVOLUTION and not _is_whole(node) and shapes[node.takes(1)][1] > 1:
            outputs, inputs = shapes[node.takes(1)][:2]  # of several channels to a group no block is filled up
            said = [(node.outputs[0], outputs), (node.takes(0), inputs * node.integer("group", 1))]
        else:
            continue
        for value, count in said:
            group = groups.get(value, "")
            found[group] = count if found.get(group, count) == count else 0
    return found


def _fits(
    node: NodeProto, shape: tuple[int, ...], block: int, groups: Mapping[str, str], stated: Mapping[str, int]
) -> bool:
    """Return whether the kernel of a convolution stands in blocks of this length."""
    outputs, inputs = shape[:2]
    count = stated.get(groups[node.outputs[0]], outputs)
    whole_inputs = node.takes(0) not in groups or (inputs == 1 and not _is_whole(node)) or inputs % block == 0
    return count > 0 and outputs == _filled_up(count, block) and inputs > 0 and whole_inputs


def _filled_up(channels: int, block: int) -> int:
    return -(-channels // block) * block


def _is_whole(node: NodeProto) -> bool:
    """Return whether each output of a convolution takes all inputs."""
    return node.integer("group", 1) == 1


def _groups(graph: GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
    """Return the blocked values, those that have equally many channels by one name; None if one is not understood."""
    first: dict[str, str] = {}

    def root(value: str) -> str:
        while first[value] != value:
            first[value] = value = first[first[value]]
        return value

    def join(*values: str) -> None:
        one = root(first.setdefault(values[0], values[0]))
        for value in values[1:]:
            first[root(first.setdefault(value, value))] = one

    for node in graph.nodes:
        taken = [name for name in node.inputs if name in first]
        if not taken and not node.op.startswith(DOMAIN):
            continue
        if len(node.outputs) != 1 or (not taken and node.op == FROM_BLOCKS) or node.op == "Concat":
            return None
        if node.op == CONVOLUTION:
            same = [] if _is_whole(node) or shapes[node.takes(1)][1] > 1 else [node.takes(0)]
            join(node.outputs[0], *same, *(name for name in node.inputs[3:] if name))
        elif node.op != FROM_BLOCKS:
            join(node.outputs[0], *taken)
    return {value: root(value) for value in list(first)}


def _unblocked(stored: Array, node: NodeProto, block: int, *, blocked: bool) -> Array:
    """Return a kernel in the order (outputs, inputs, height, width)."""
    outputs, inputs, height, width = stored.shape
    alone = not blocked or (inputs == 1 and not _is_whole(node))
    if alone:
        parts = stored.reshape(outputs // block, inputs, height, width, block)
        return parts.transpose(0, 4, 1, 2, 3).reshape(stored.shape)
    parts = stored.reshape(outputs // block, inputs // block, height, width, block, block)
    return parts.transpose(0, 5, 1, 4, 2, 3).reshape(stored.shape)


def _not_zero(node: NodeProto, weights: Array, constants: Constants) -> Iterator[tuple[str, int]]:
    """Yield what a convolution returns and takes, and how many channels of each are up to the last that counts."""
    bias = constants.get(node.takes(2))
    made = (weights != 0).any(axis=(1, 2, 3))
    if bias is not None and bias.values.shape == made.shape:
        made |= bias.values != 0
    yield node.outputs[0], _last(made)
    if _is_whole(node):
        yield node.takes(0), _last((weights != 0).any(axis=(0, 2, 3)))


def _last(counts: Array) -> int:
    return int(np.flatnonzero(counts).max(initial=0)) + 1
