"""Chains of additions and multiplications by one number per channel, joined to what they are together: scale and shift.

A batch norm reaches an export as one node, as MUL and ADD, as SUB, MUL, ADD, or as a batch norm with a MUL and an ADD
behind it. All of these are `scale * x + shift` per channel. The scale and the shift of a chain are computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Kernel, Node


@dataclass(frozen=True, eq=False)
class Piece:
    """An operation that takes one value and one constant of a number per channel."""

    name: str
    operation: str
    """`add`, `sub`, `mul` or `div`."""
    x: str
    y: str
    constant: Array
    """Of any shape that has at most one axis longer than 1."""
    constant_first: bool = False
    """Whether it is `constant - x` or `constant / x`; the order of a sum or a product does not matter."""
    dtype: str = "float32"
    step: Array | None = None
    """Quantisation step of the constant."""
    limits: ActivationLimits | None = None
    activation: str = ""
    rank: int | None = None
    """Number of axes of what it takes, where that is known."""


def channel_axis(shape: Sequence[int]) -> int | None:
    """Return the axis that a constant's numbers run along, counted from the end; None if there are several."""
    long = [place - len(shape) for place, length in enumerate(shape) if length > 1]
    return (long[0] if long else -1) if len(long) < 2 else None


def scale_and_shift(piece: Piece) -> Node | None:
    """Return a piece as a node that scales and shifts each channel; None where it does something else."""
    axis = channel_axis(piece.constant.shape)
    if axis is None or piece.constant.dtype.kind != "f" or (piece.operation == "div" and piece.constant_first):
        return None
    numbers = piece.constant.reshape(-1).astype(np.float64)
    one, nothing = np.ones_like(numbers), np.zeros_like(numbers)
    with np.errstate(all="ignore"):
        scale, shift = {
            "add": (one, numbers),
            "sub": (-one, numbers) if piece.constant_first else (one, -numbers),
            "mul": (numbers, nothing),
            "div": (1 / numbers, nothing),
        }[piece.operation]
    steps = np.broadcast_to(piece.step, numbers.shape) if piece.step is not None else None
    adds = piece.operation in {"add", "sub"}
    kernel = Kernel(
        scale.reshape(1, 1, -1),
        shift,
        numbers.size,
        piece.dtype,
        None if adds else steps,
        steps if adds else None,
    )
    return Node(
        piece.name,
        network.BATCH_NORM,
        (piece.x,),
        (piece.y,),
        kernel,
        layer=piece.name,
        activation=piece.activation,
        folded=True,
        geometry=Geometry(channel_axis=axis),
        limits=piece.limits,
        magnitude=np.abs(shift),
    )


def join(nodes: Iterable[Node], outputs: Iterable[str]) -> list[Node]:
    """Join each run of nodes that scale and shift, and an addition behind a kernel, to one node.

    Args:
        nodes: of a graph, in the order in which they are computed.
        outputs: values that leave the graph: somebody reads them.
    """
    ends = tuple(outputs)
    # Whole chains first: in a chain that multiplies as well, the addition alone is not a bias.
    return _pass(_of_products(_pass(list(nodes), ends, biases=False), ends), ends, biases=True)


def _pass(found: list[Node], outputs: Iterable[str], *, biases: bool) -> list[Node]:
    readers = _readers(found, outputs)
    makers: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
    gone: set[int] = set()
    for place, node in enumerate(found):
        before = makers.get(node.inputs[0]) if node.inputs and readers[node.inputs[0]] == 1 else None
        if before is not None and node.operation == network.BATCH_NORM:
            first, order, between = before
            linear = found[first].operation != network.BATCH_NORM
            joined = _joined(found[first], node, order) if linear is biases else None
            if joined is not None:
                found[first] = joined
                gone |= {place, *between}
                makers.update(dict.fromkeys(joined.outputs, (first, joined.order, ())))
                continue
        if before is not None and node.operation == "transpose" and node.order:
            first, order, between = before
            moved = tuple(order[axis] for axis in node.order) if order else node.order
            makers.update(dict.fromkeys(node.outputs, (first, moved, (*between, place))))
        elif before is not None and node.operation == "identity" and len(node.inputs) == 1:
            # To whole numbers and back: what that rounds is in the value that comes out.
            makers.update(dict.fromkeys(node.outputs, (before[0], before[1], (*before[2], place))))
        elif node.kernel is not None:
            makers.update(dict.fromkeys(node.outputs, (place, (), ())))
    return [node for place, node in enumerate(found) if place not in gone]


def _of_products(found: list[Node], outputs: Iterable[str]) -> list[Node]:
    """Join a scale of one factor of a product to the shift of the product.

    Behind silu, x * (y * scale) + shift is what tf2onnx makes of a batch norm.
    """
    readers, makers = _readers(found, outputs), {value: node for node in found for value in node.outputs}
    joined: dict[int, Node] = {}
    gone: set[int] = set()
    for node in found:
        product = makers.get(node.inputs[0]) if _is_shift(node) and node.inputs else None
        if product is None or product.operation != "mul" or len(product.inputs) != 2 or readers[node.inputs[0]] != 1:
            continue
        for value, other in (product.inputs, product.inputs[::-1]):
            scale = makers.get(value)
            if scale is None or not _is_scale(scale) or readers[value] != 1 or value == other:
                continue
            whole = _joined(replace(scale, outputs=product.outputs), node, ())
            if whole is not None:
                joined[id(node)] = replace(whole, inputs=(scale.inputs[0], other), factor=other)
                gone |= {id(scale), id(product)}
                break
    return [joined.get(id(node), node) for node in found if id(node) not in gone]


def _is_scale(node: Node) -> bool:
    return node.operation == network.BATCH_NORM and node.folded and not _numbers(node)[1].any()


def _is_shift(node: Node) -> bool:
    return node.operation == network.BATCH_NORM and node.folded and bool((_numbers(node)[0] == 1).all())


def _readers(nodes: Iterable[Node], outputs: Iterable[str]) -> dict[str, int]:
    """Return how often each value is read, leaving the graph included."""
    readers: dict[str, int] = {}
    for value in (*(value for node in nodes for value in dict.fromkeys(node.inputs)), *outputs):
        readers[value] = readers.get(value, 0) + 1
    return readers


def _joined(first: Node, second: Node, order: tuple[int, ...]) -> Node | None:
    """Return two nodes as one; None if they are not. `order` is that of what the second takes of the first's result."""
    if first.kernel is None or second.kernel is None or first.activation or first.limits is not None:
        return None
    if first.operation != network.BATCH_NORM:
        return _with_bias(first, second, order)
    if first.norm is not None and second.norm is not None:
        return None  # two layers, each with parameters of its own
    one, two = first.kernel, second.kernel
    own, other = _axis(first), _moved_back(_axis(second), order)
    axes = sorted({axis for axis, kernel in ((own, one), (other, two)) if kernel.outputs > 1})
    if (len(axes) > 1 and not _is_same_axis(*axes)) or (
        one.outputs != two.outputs and 1 not in {one.outputs, two.outputs}
    ):
        return None
    scale_1, shift_1, size_1 = _numbers(first)
    scale_2, shift_2, size_2 = _numbers(second)
    with np.errstate(all="ignore"):
        scale, shift = scale_1 * scale_2, shift_1 * scale_2 + shift_2
        size = size_1 * np.abs(scale_2) + size_2
    rounds = {value: np.abs(factor * scale_2) for value, factor in first.rounds.items()}
    rounds[second.inputs[0]] = np.abs(scale_2)
    kernel = Kernel(
        scale.reshape(1, 1, -1),
        shift,
        scale.size,
        max((one.dtype, two.dtype), key=_coarseness),
        _steps((scale_1, two.weight_step), (scale_2, one.weight_step)),
        _steps((np.ones(1), two.bias_step), (scale_2, one.bias_step), (shift_1, two.weight_step)),
    )
    return replace(
        second,
        name=first.name,
        layer=first.layer or second.layer,
        inputs=first.inputs,
        kernel=kernel,
        folded=True,
        geometry=Geometry(channel_axis=next(iter(axes), -1)),
        rounds={**rounds, **second.rounds},
        order=order,
        magnitude=size,
    )


def _axis(node: Node) -> int:
    if node.geometry is None:
        return -1
    axis = node.geometry.channel_axis
    return -1 - len(node.geometry.size) if axis == 1 and node.geometry.size else axis


def _is_same_axis(one: int, other: int) -> bool:
    """Return whether two axes may be the same: the second from the front of a batch norm is any, counted from the end.

    If it is not, what was joined is not what the runtime computes, which the recomputation shows.
    """
    return one == other or (one == 1 and other < 0) or (other == 1 and one < 0)


def _moved_back(axis: int, order: tuple[int, ...]) -> int:
    """Return which axis of an operation's own result, counted from the end, stands at `axis` of a transposed one."""
    return order[axis] - len(order) if order and -len(order) <= axis < len(order) else axis


def _steps(*parts: tuple[Array, Array | None]) -> Array | None:
    """Return by how many steps a number is off of which parts are rounded: each its step, times what multiplies it."""
    known = [np.abs(factor) * step for factor, step in parts if step is not None]
    return None if not known else np.asarray(sum(known))


def _coarseness(dtype: str) -> int:
    return ("float64", "float32", "float16", "bfloat16").index(dtype) if dtype in _FLOATS else 1


_FLOATS = ("float64", "float32", "float16", "bfloat16")


def _numbers(node: Node) -> tuple[Array, Array, Array]:
    assert node.kernel is not None  # noqa: S101 - narrows the type
    scale = node.kernel.weights.reshape(-1).astype(np.float64)
    shift = np.zeros(scale.size) if node.kernel.bias is None else node.kernel.bias.astype(np.float64)
    return scale, shift, np.abs(shift) if node.magnitude is None else node.magnitude


def _with_bias(linear: Node, added: Node, order: tuple[int, ...]) -> Node | None:
    """Return a linear node with an addition of one number per channel behind it as its bias."""
    kernel, addition = linear.kernel, added.kernel
    if kernel is None or addition is None or not added.folded:
        return None
    if not np.array_equal(addition.weights, np.ones_like(addition.weights)) or addition.bias is None:
        return None
    if addition.outputs not in {1, kernel.outputs}:
        return None
    # Where nobody says how a kernel moves, as behind a length that is computed, what comes out shows the axis.
    known = addition.outputs > 1 and (linear.geometry is not None or linear.operation == network.DENSE)
    if known and not _is_same_axis(_axis(linear), _moved_back(_axis(added), order)):
        return None
    bias, steps = np.broadcast_to(addition.bias, (kernel.outputs,)), [(np.ones(1), addition.bias_step)]
    if kernel.bias is not None:
        # Seen from onnxsim: the scale and the bias are in the convolution, beta - mean*a is added behind it.
        bias = bias + kernel.bias.astype(np.float64)
        steps.append((np.ones(1), kernel.bias_step))
    return replace(
        linear,
        outputs=added.outputs,
        kernel=replace(kernel, bias=bias, bias_step=_steps(*steps)),
        activation=added.activation,
        limits=added.limits,
        rounds={**linear.rounds, added.inputs[0]: np.ones(1)},
        order=order,
    )


RELUS: Mapping[str, ActivationLimits] = {
    "relu": ActivationLimits(0.0, float("inf")),
    "relu6": ActivationLimits(0.0, 6.0),
    "relu n1 to 1": ActivationLimits(-1.0, 1.0),
}
"""Activations that cut off, by the names that formats share."""
