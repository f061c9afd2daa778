"""What operators make of constants: those that exporters leave between a parameter and its batch norm.

Most only move numbers, or compute what can be rounded in one way alone: what they return is what the runtime returns,
bit for bit. Others it computes as it likes, and what it returns may differ in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bninspect.formats.onnx.model import TYPES, NodeProto
from bninspect.records import Array

MOST_ELEMENTS = 1 << 24
"""Of a constant that is computed."""
_Operator = Callable[[NodeProto, Sequence["Array"], int], "Array"]


def evaluate(node: NodeProto, inputs: Sequence[Array], opset: int) -> Array | None:
    """Return the first output of a node for constant inputs; None if it is too large or the inputs do not fit.

    Args:
        node: of an operator in `MOVING` or `COMPUTING`.
        inputs: in their order.
        opset: version of the operators.
    """
    operator = MOVING.get(node.op) or COMPUTING[node.op]
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(operator(node, inputs, opset))
    except (ValueError, IndexError, TypeError, OverflowError, _TooLargeError):
        return None
    return np.array(found) if found.size <= MOST_ELEMENTS else None


def literal(node: NodeProto) -> Array | None:
    """Return what a Constant holds that holds no tensor: numbers of its own."""
    for name, number, dtype in (("value_float", 2, "f4"), ("value_floats", 7, "f4"), ("value_int", 3, "i8")):
        if (attribute := node.attributes.get(name)) is not None:
            if number == 3:
                return np.asarray(attribute.integer(3), dtype)
            return np.asarray(attribute.real(2), dtype) if number == 2 else np.frombuffer(attribute.fixed32(7), "<f4")
    integers = node.attributes.get("value_ints")
    return None if integers is None else np.asarray(integers.integers(8), np.int64)


def is_exact(node: NodeProto, inputs: Sequence[Array]) -> bool:
    """Return whether a runtime returns the same numbers bit for bit. Of float16 it may round the last step alone."""
    return node.op in MOVING or (node.op in ROUNDING and all(source.dtype != np.float16 for source in inputs))


class _TooLargeError(Exception):
    """A constant would be larger than any model needs."""


def _limited(shape: Sequence[int]) -> tuple[int, ...]:
    lengths = tuple(int(size) for size in shape)
    if min(lengths, default=0) < 0 or math.prod(lengths) > MOST_ELEMENTS:
        raise _TooLargeError
    return lengths


def _axes(node: NodeProto, inputs: Sequence[Array]) -> tuple[int, ...]:
    """Return the axes of Squeeze and Unsqueeze, an attribute up to opset 12 and an input from 13 on."""
    return tuple(int(value) for value in inputs[1].ravel()) if len(inputs) > 1 else tuple(node.integers("axes"))


def _reshape(node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    wanted = [int(value) for value in inputs[1].ravel()] if len(inputs) > 1 else node.integers("shape")
    kept = not node.integer("allowzero", 0)
    return inputs[0].reshape(
        [inputs[0].shape[place] if kept and length == 0 else length for place, length in enumerate(wanted)]
    )


def _flatten(node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    axis = node.integer("axis", 1) % (inputs[0].ndim + 1)
    return inputs[0].reshape(math.prod(inputs[0].shape[:axis]), -1)


def _expand(_node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    shape = np.broadcast_shapes(inputs[0].shape, tuple(int(value) for value in inputs[1].ravel()))
    return np.broadcast_to(inputs[0], _limited(shape))


def _tile(_node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    repeats = [int(value) for value in inputs[1].ravel()]
    _limited([length * times for length, times in zip(inputs[0].shape, repeats, strict=True)])
    return np.tile(inputs[0], repeats)


def _fill(node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    from bninspect.formats.onnx import tensor

    value = node.tensor("value")
    filled = np.zeros(1, np.float32) if value is None else tensor.inside(value)
    return np.full(_limited(inputs[0].ravel().tolist()), filled.reshape(-1)[0])


def _slice(node: NodeProto, inputs: Sequence[Array], opset: int) -> Array:
    if opset < 10:
        starts, ends = node.integers("starts"), node.integers("ends")
        axes, steps = node.integers("axes") or list(range(len(starts))), [1] * len(starts)
    else:
        starts, ends = ([int(value) for value in inputs[place].ravel()] for place in (1, 2))
        axes = [int(value) for value in inputs[3].ravel()] if len(inputs) > 3 else list(range(len(starts)))
        steps = [int(value) for value in inputs[4].ravel()] if len(inputs) > 4 else [1] * len(starts)
    found = inputs[0]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise ValueError("a slice that runs backwards")
        found = found[(slice(None),) * (axis % found.ndim) + (slice(start, end, step),)]
    return found


def _shape(node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    rank = inputs[0].ndim
    # slice() counts from the end and clips as onnx/defs/tensor does.
    return np.asarray(inputs[0].shape[node.integer("start", 0) : node.integer("end", rank)], np.int64)


def _cast(node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    name = TYPES.get(node.integer("to", 0), "")
    if name in {"", "string", "bfloat16"}:
        raise ValueError(f"a cast to {name}")
    return inputs[0].astype(name)


def _binary(operation: Callable[[Array, Array], Array]) -> _Operator:
    def computed(_node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
        left, right = inputs
        _limited(np.broadcast_shapes(left.shape, right.shape))
        return np.asarray(operation(left, right))

    return computed


def _where(_node: NodeProto, inputs: Sequence[Array], _opset: int) -> Array:
    _limited(np.broadcast_shapes(*(source.shape for source in inputs)))
    chosen, left, right = inputs
    return np.where(chosen, left, right)


def _unary(operation: Callable[[Array], Array]) -> _Operator:
    return lambda _node, inputs, _opset: np.asarray(operation(inputs[0]))


def _divide(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iu":
        return np.where(right == 0, 0, np.trunc(left / np.where(right == 0, 1, right))).astype(left.dtype)
    return np.asarray(left / right)


MOVING: Mapping[str, _Operator] = {
    "Identity": _unary(lambda values: values),
    "Reshape": _reshape,
    "Squeeze": lambda node, inputs, _: np.squeeze(inputs[0], _axes(node, inputs) or None),
    "Unsqueeze": lambda node, inputs, _: np.expand_dims(inputs[0], _axes(node, inputs)),
    "Transpose": lambda node, inputs, _: np.transpose(inputs[0], node.integers("perm") or None),
    "Flatten": _flatten,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _fill,
    "Concat": lambda node, inputs, _: np.concatenate(inputs, node.integer("axis", 1)),
    "Gather": lambda node, inputs, _: np.take(inputs[0], inputs[1], node.integer("axis", 0)),
    "Slice": _slice,
    "Shape": _shape,
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Cast": _cast,
    "Equal": _binary(np.equal),
    "Where": _where,
}
"""What returns numbers that it was given, or rounds them in the one way that there is."""
ROUNDING: Mapping[str, _Operator] = {
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Sqrt": _unary(np.sqrt),
}
"""What IEEE 754 leaves no choice how to round."""
APPROXIMATING: Mapping[str, _Operator] = {
    "Pow": _binary(lambda base, exponent: np.power(base, exponent).astype(base.dtype)),
    "Reciprocal": _unary(lambda values: (1 / values).astype(values.dtype)),
    "Exp": _unary(np.exp),
    "Softplus": _unary(lambda values: np.logaddexp(values, np.zeros((), values.dtype))),
    "Max": lambda _node, inputs, _opset: np.maximum.reduce(np.broadcast_arrays(*inputs)),
    "Min": lambda _node, inputs, _opset: np.minimum.reduce(np.broadcast_arrays(*inputs)),
}
"""What every runtime computes in its own way, nearly alike."""
COMPUTING = {**ROUNDING, **APPROXIMATING}
