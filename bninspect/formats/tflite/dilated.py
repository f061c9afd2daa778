"""Convolutions with gaps that TensorFlow spells out: space to batch, a convolution without gaps, batch to space.

The first deals every place of its padded input out to `block` batches, so that neighbours in a batch lie `block` apart;
the last puts them together again and crops what was padded on top (tf.nn.with_space_to_batch).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bninspect.formats.tflite.model import Operator, TfliteTensor
from bninspect.records.graph import Geometry, Node

_RANK = 2


@dataclass(frozen=True, eq=False)
class Dilated:
    """A convolution between the two that deal its input out and put its result together."""

    before: Operator
    convolution: Operator
    behind: Operator
    block: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    def node(self, plain: Node) -> Node:
        """Return what the three are together, from the convolution as it is by itself."""
        assert plain.geometry is not None  # noqa: S101 - only such convolutions are found
        gaps = tuple(a * b for a, b in zip(plain.geometry.dilation, self.block, strict=True))
        return replace(
            plain,
            inputs=(self.before.inputs[0].label,) if self.before.inputs[0] is not None else plain.inputs,
            outputs=(self.behind.outputs[0].label,),
            padded=any(side for both in self.padding for side in both),
            geometry=Geometry(plain.geometry.size, plain.geometry.stride, self.padding, gaps),
        )


def find(operators: Iterable[Operator], ends: Iterable[TfliteTensor]) -> Mapping[int, Dilated]:
    """Return the convolutions of a graph that are dilated so, by the index of each of their three operators."""
    makers: dict[int, Operator] = {}
    readers: dict[int, list[Operator]] = {end.index: [] for end in ends}
    left = {end.index for end in ends}
    every = tuple(operators)
    for operator in every:
        makers |= {tensor.index: operator for tensor in operator.outputs}
        for tensor in operator.inputs:
            if tensor is not None:
                readers.setdefault(tensor.index, []).append(operator)
    found: dict[int, Dilated] = {}
    for operator in every:
        x = operator.takes(0)
        if operator.operation not in {"conv", "depthwise conv"} or x is None or len(operator.outputs) != 1:
            continue
        before, after = makers.get(x.index), readers.get(operator.outputs[0].index, [])
        alone = len(readers.get(x.index, ())) == 1 and len(after) == 1 and operator.outputs[0].index not in left
        if before is not None and alone:
            one = _dilated(before, operator, after[0])
            if one is not None:
                found |= {part.index: one for part in (before, operator, after[0])}
    return found


def _dilated(before: Operator, convolution: Operator, behind: Operator) -> Dilated | None:
    if (before.operation, behind.operation) != ("space to batch", "batch to space") or len(behind.outputs) != 1:
        return None
    made, y = convolution.outputs[0], behind.outputs[0]
    x, taken = before.takes(0), convolution.takes(0)
    options = convolution.options
    if x is None or taken is None or options is None or not _is_plain(convolution):
        return None
    numbers = [_pairs(operator, place) for operator, place in ((before, 1), (before, 2), (behind, 1), (behind, 2))]
    block, padding, again, crops = numbers
    same_grid = all(
        one.scales.tobytes() == other.scales.tobytes() and one.zeros.tobytes() == other.zeros.tobytes()
        for one, other in ((x, taken), (made, y))
    )
    if block is None or padding is None or crops is None or block != again or not same_grid:
        return None
    if len(block) != _RANK or len(padding) != 2 * _RANK or len(crops) != 2 * _RANK or any(crops[::2]):
        return None
    whole = tuple((padding[2 * axis], padding[2 * axis + 1] - crops[2 * axis + 1]) for axis in range(_RANK))
    if min(*block, *padding, *crops) < 0 or min(block) < 1:
        return None
    return Dilated(before, convolution, behind, block, whole)


_VALID = 1
_STRIDES = (1, 2)


def _is_plain(convolution: Operator) -> bool:
    """Return whether a convolution neither pads nor strides: of those the crops are all that is beyond the border."""
    options = convolution.options
    if options is None:
        return False
    return int(options.number(0, "b")) == _VALID and all(int(options.number(one, "i")) == 1 for one in _STRIDES)


def _pairs(operator: Operator, place: int) -> tuple[int, ...] | None:
    tensor = operator.takes(place)
    if tensor is None or not tensor.is_constant or tensor.stored.dtype.kind not in "iu":
        return None
    return tuple(int(value) for value in tensor.stored.reshape(-1))
