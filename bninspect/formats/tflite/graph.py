"""What a TFLite graph computes, with the weights in our order, and the batch norms that survived as MUL and ADD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bninspect.formats.norm_names import distinct
from bninspect.formats.tflite.model import Operator, Subgraph, TfliteTensor
from bninspect.records import Array, BatchNorm, Statistics


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
            axis=(-1,),
            scale=True,
            center=True,
            dtype="+".join(dict.fromkeys(tensor.dtype for tensor in (self.scale, self.shift))),
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
    found = [affine for operator in graph.operators if (affine := _affine(operator, readers, ends)) is not None]
    yield from zip(distinct(affine.name for affine in found), found, strict=True)


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
    if channels < 1 or not all(_per_channel(tensor, channels) for tensor in (scale, shift)):
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
