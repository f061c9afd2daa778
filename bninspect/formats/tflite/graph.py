"""What a TFLite graph computes, with the weights in our order, and the batch norms that survived as MUL and ADD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bninspect.formats.tflite.model import Operator, Subgraph, TfliteTensor
from bninspect.records import BatchNorm, Statistics
from bninspect.records import graph as network
from bninspect.records.graph import Kernel, Network, Node, Value

if TYPE_CHECKING:
    from bninspect.records import Array

_PASSING = {
    **dict.fromkeys(("reshape", "squeeze", "expand dims"), "reshape"),
    **dict.fromkeys(("quantize", "dequantize"), "identity"),
    "transpose": "transpose",
    "cast": "cast",
}


@dataclass(frozen=True, eq=False)
class TfliteAffine:
    """A MUL by one constant per channel and the ADD of another that alone reads its result."""

    first: Operator
    last: Operator
    x: TfliteTensor
    scale: TfliteTensor
    shift: TfliteTensor
    sign: int
    """-1 where the shift is subtracted."""

    @property
    def name(self) -> str:
        """The name of its result, which converters derive from the model's own names."""
        return self.last.outputs[0].name or f"operator {self.first.index}"

    @property
    def shifts(self) -> Array:
        """What is added."""
        values = self.shift.values.reshape(-1)
        # A change of sign is not arithmetic, and warns of no NaN.
        return np.negative(values) if self.sign < 0 else values

    def layer(self, name: str) -> BatchNorm:
        """Return it as a batch norm whose statistics are folded."""
        gamma, beta = self.scale.values.reshape(-1), self.shifts
        for array in (gamma, beta):
            array.flags.writeable = False
        quantised = self.scale.stored.dtype.kind != "f" or self.shift.stored.dtype.kind != "f"
        return BatchNorm(
            name=name,
            gamma=gamma,
            beta=beta,
            moving_mean=None,
            moving_variance=None,
            axis=(-1,),
            scale=True,
            center=True,
            dtype="+".join(dict.fromkeys(one.dtype for one in (self.scale, self.shift))),
            location=f"operator {self.first.index}",
            class_name="MUL+SUB" if self.sign < 0 else "MUL+ADD",
            statistics=Statistics.FOLDED,
            notes=("scale and shift are quantised",) if quantised else (),
        )


def affine_maps(graph: Subgraph) -> Iterator[tuple[str, TfliteAffine]]:
    """Yield the scale-and-shift pairs in the order of the graph, each with a name of its own."""
    readers: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            if tensor is not None:
                readers.setdefault(tensor.index, []).append(operator)
    ends = {tensor.index for tensor in graph.outputs}
    taken: set[str] = set()
    for operator in graph.operators:
        affine = _affine(operator, readers, ends)
        if affine is not None:
            name, count = affine.name, 1
            while name in taken:
                count += 1
                name = f"{affine.name}~{count}"
            taken.add(name)
            yield name, affine


def _affine(first: Operator, readers: dict[int, list[Operator]], ends: set[int]) -> TfliteAffine | None:
    if first.operation != "mul" or first.activation or len(first.outputs) != 1:
        return None
    result = first.outputs[0]
    after = readers.get(result.index, [])
    scaled = _variable_and_constant(first)
    if scaled is None or result.index in ends or len(after) != 1 or after[0].operation not in {"add", "sub"}:
        return None
    shifted = _variable_and_constant(after[0])
    if shifted is None or shifted[0].index != result.index or len(after[0].outputs) != 1:
        return None
    if after[0].operation == "sub" and after[0].takes(0) is not result:
        return None
    (x, scale), shift = scaled, shifted[1]
    channels = x.shape[-1] if x.shape else 0
    if channels < 1 or not all(_per_channel(one, channels) for one in (scale, shift)):
        return None
    return TfliteAffine(first, after[0], x, scale, shift, -1 if after[0].operation == "sub" else 1)


def _variable_and_constant(operator: Operator) -> tuple[TfliteTensor, TfliteTensor] | None:
    found = [tensor for tensor in operator.inputs if tensor is not None]
    constant = [tensor for tensor in found if tensor.is_constant]
    moving = [tensor for tensor in found if not tensor.is_constant]
    return (moving[0], constant[0]) if len(found) == 2 and len(constant) == 1 else None


def _per_channel(tensor: TfliteTensor, channels: int) -> bool:
    shape = tensor.shape
    return bool(shape) and shape[-1] == channels == max(int(np.prod(shape)), 1) and tensor.dtype != "unknown"


def read(graph: Subgraph) -> Network:
    """Return what a graph computes."""
    pairs = dict(affine_maps(graph))
    starts = {affine.first.index: name for name, affine in pairs.items()}
    inside = {affine.last.index for affine in pairs.values()}
    nodes = []
    for operator in graph.operators:
        if operator.index in starts:
            name = starts[operator.index]
            nodes.append(_pair(name, pairs[name]))
        elif operator.index not in inside:
            nodes.append(_node(operator))
    return Network(
        tuple(Value(one.label, one.signature, one.dtype) for one in graph.inputs),
        tuple(Value(one.label, one.signature, one.dtype) for one in graph.outputs),
        tuple(nodes),
    )


def _pair(name: str, affine: TfliteAffine) -> Node:
    steps = [
        None if one.stored.dtype.kind == "f" else np.broadcast_to(one.scales, one.values.size)
        for one in (affine.scale, affine.shift)
    ]
    scale = affine.scale.values.reshape(1, 1, -1)
    return Node(
        name,
        network.BATCH_NORM,
        (affine.x.label,),
        (affine.last.outputs[0].label,),
        Kernel(scale, affine.shifts, scale.size, _float_type(affine.scale), *steps),
        layer=name,
        activation=affine.last.activation,
        folded=True,
    )


def _node(operator: Operator) -> Node:
    kernel, kind, x = _kernel(operator)
    taken = [x] if kernel is not None else [one for one in operator.inputs if one is not None and not one.is_constant]
    return Node(
        f"operator {operator.index}",
        kind or _PASSING.get(operator.operation, operator.operation),
        tuple(one.label for one in taken if one is not None),
        tuple(one.label for one in operator.outputs),
        kernel,
        activation=operator.activation,
    )


_LINEAR = {"conv": (0, 1, 2), "depthwise conv": (0, 1, 2), "fully connected": (0, 1, 2), "transpose conv": (2, 1, 3)}
"""Where input, weights and bias are among an operator's inputs."""


def _kernel(operator: Operator) -> tuple[Kernel | None, str, TfliteTensor | None]:
    """Return the constants of a linear operation, its kind and its input; no kernel and kind for everything else."""
    places = _LINEAR.get(operator.operation)
    if places is None:
        return None, "", None
    x, weights, bias = (operator.takes(place) for place in places)
    if x is None or weights is None or not weights.is_constant or (bias is not None and not bias.is_constant):
        return None, "", None
    numbers, kind, groups = weights.values, network.CONVOLUTION, 1
    if operator.operation == "depthwise conv":  # (1, height, width, outputs)
        kind, groups = network.DEPTHWISE, x.shape[-1] if x.shape else 1
        numbers = numbers.reshape(-1, 1, numbers.shape[-1])
    elif operator.operation == "fully connected":  # (outputs, inputs)
        kind, numbers = network.DENSE, network.dense(numbers.T)
    else:  # (outputs, height, width, inputs per group)
        kind = network.CONVOLUTION if operator.operation == "conv" else network.TRANSPOSED
        groups = x.shape[-1] // numbers.shape[-1] if x.shape and numbers.ndim == 4 and numbers.shape[-1] else 1
        numbers = network.convolution(np.moveaxis(numbers, -1, 1))
    return _assembled(numbers, groups, weights, bias), kind, x


def _assembled(numbers: Array, groups: int, weights: TfliteTensor, bias: TfliteTensor | None) -> Kernel:
    outputs = numbers.shape[2]
    step = np.broadcast_to(weights.scales, (outputs,)) if weights.scales.size in {1, outputs} else None
    quantised = weights.stored.dtype.kind != "f"
    units = bias is not None and bias.scales.size in {1, outputs} and bias.stored.dtype.kind != "f"
    return Kernel(
        numbers,
        None if bias is None else bias.values.reshape(-1),
        max(groups, 1),
        _float_type(weights),
        step if quantised else None,
        np.broadcast_to(bias.scales, (outputs,)) if bias is not None and units else None,
    )


def _float_type(tensor: TfliteTensor) -> str:
    """Return the type to which the numbers of a constant were rounded; that of quantised ones says their step."""
    return tensor.dtype if tensor.stored.dtype.kind == "f" else "float32"
