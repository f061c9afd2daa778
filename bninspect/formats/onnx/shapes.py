"""What a graph says of the rank of a value and of its batch, as far as that tells what a norm is."""

from __future__ import annotations

from collections.abc import Sequence

from bninspect.formats.onnx.constants import Constants

ANY = -1
"""A batch of whatever size, or of a fixed one above 1."""
_KEEPING = """
Abs Add AveragePool BatchNormalization Cast Clip Div Dropout Elu Erf GlobalAveragePool GlobalMaxPool HardSigmoid
HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu LRN MaxPool Mul Neg Pad Pow PRelu QuantizeLinear
DequantizeLinear ReduceMean Relu Resize Selu Sigmoid Softplus Softsign Sqrt Sub Tanh ThresholdedRelu Upsample
"""
_SAME_RANK = frozenset(_KEEPING.split())
_SAME_SHAPE = frozenset(
    ("Identity", "Cast", "Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Add", "Sub", "Mul", "Div", "Pow")
)
_FARTHEST = 4096
"""Operators between a value and the input that it is made of."""


def rank(name: str, constants: Constants) -> int | None:
    """Return the rank of a value; None if the graph does not tell."""
    for _ in range(_FARTHEST):
        if (shape := constants.shape(name)) is not None:
            return len(shape)
        node = constants.maker(name)
        if node is None:
            return None
        if node.op in {"Conv", "ConvTranspose", "Reshape", "Flatten", "Gemm"}:
            weights = constants.get(node.takes(1)) if node.op.startswith("Conv") else None
            lengths = constants.integers(node.takes(1)) if node.op == "Reshape" else None
            if weights is not None:
                return weights.values.ndim
            return 2 if node.op in {"Flatten", "Gemm"} else len(lengths) if lengths else None
        if node.op not in _SAME_RANK and node.op != "Transpose":
            return None
        name = _data(node.inputs, constants)
    return None


def shape(name: str, constants: Constants) -> tuple[int | None, ...] | None:
    """Return what the graph tells of a shape, None for a length that it does not; None if it does not tell the rank."""
    orders: list[list[int]] = []
    found: tuple[int | None, ...] | None = None
    for _ in range(_FARTHEST):
        node = constants.maker(name)
        if (stated := constants.shape(name)) is not None or node is None:
            found = stated
            break
        if node.op == "Reshape":
            found = _reshaped(node.takes(1), constants)
            break
        if node.op == "Transpose" and (order := node.integers("perm")):
            orders.append(order)
        elif node.op not in _SAME_SHAPE or sum(value not in constants for value in node.inputs if value) != 1:
            axes = rank(name, constants)
            found = None if not axes else (1 if batch(name, constants) == 1 else None, *(None,) * (axes - 1))
            break
        name = _data(node.inputs, constants)
    for order in reversed(orders):
        fits = found is not None and sorted(order) == list(range(len(found)))
        found = tuple(found[axis] for axis in order) if found is not None and fits else None
    return found


def _reshaped(name: str, constants: Constants) -> tuple[int | None, ...] | None:
    lengths, first = constants.integers(name), leading(name, constants)
    if lengths is None:
        return None if first is None else (_length(first), None, None, None)
    return tuple(map(_length, lengths))


def _length(stated: int) -> int | None:
    return stated if stated > 0 else None


def batch(name: str, constants: Constants) -> int | None:
    """Return the length of the first axis: ANY where it is open or above 1, None if the graph does not tell."""
    for _ in range(_FARTHEST):
        if (shape := constants.shape(name)) is not None:
            return None if not shape else 1 if shape[0] == 1 else ANY
        node = constants.maker(name)
        if node is None:
            return None
        if node.op == "Reshape":
            first = leading(node.takes(1), constants)
            if first is not None and first != 0:
                return 1 if first == 1 else ANY
        elif node.op == "Transpose":
            order = node.integers("perm")
            if not order or order[0] != 0:
                return None
        elif node.op not in _SAME_RANK and node.op not in {"Conv", "ConvTranspose", "Gemm", "MatMul", "Flatten"}:
            return None
        name = _data(node.inputs, constants)
    return None


def leading(name: str, constants: Constants) -> int | None:
    """Return the first length of a shape that is a constant, or is put together of constants and others."""
    for _ in range(_FARTHEST):
        known = constants.integers(name)
        if known:
            return known[0]
        node = constants.maker(name)
        if node is None or node.op not in {"Concat", "Cast", "Identity", "Unsqueeze"}:
            return None
        name = node.takes(0)
    return None


def _data(inputs: Sequence[str], constants: Constants) -> str:
    return next((name for name in inputs if name and name not in constants), "")
