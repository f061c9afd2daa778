"""What an operator of PyTorch computes, from its name and its arguments, in torch.export and in TorchScript.

Arguments go by the names of PyTorch's schema (aten/src/ATen/native/native_functions.yaml); what is left out has the
schema's default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.formats import channel_chains
from bninspect.formats.channel_chains import RELUS, Piece
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Kernel, Node

SAME: Mapping[str, str] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten"), "reshape"),
    **dict.fromkeys(("dropout", "clone", "alias", "contiguous", "detach", "feature_dropout", "dropout_"), "identity"),
    **dict.fromkeys(("permute", "transpose", "t"), "transpose"),
    "to": "cast",
    "_to_copy": "cast",
}
"""Operations that leave every number as it is, in the words of `records.graph`."""
_PIECES = {"add": "add", "sub": "sub", "mul": "mul", "div": "div", "add_": "add", "mul_": "mul", "sub_": "sub"}
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


@dataclass(frozen=True, eq=False)
class OperatorCall:
    """One call of an operator."""

    name: str
    operation: str
    """Without namespace and overload."""
    arguments: Mapping[str, Any]
    """By name: numbers, lists, names of values, and arrays where a value is a constant of floats."""
    moving: tuple[str, ...]
    """Names of the values that are not constants, in the order of the arguments."""
    outputs: tuple[str, ...]
    dtypes: Mapping[str, str]
    """Types of the constants, by the name of the argument."""


def node(call: OperatorCall) -> Node:
    """Return what a call computes."""
    linear = _linear(call)
    if linear is not None:
        kernel, kind, geometry = linear
        padding = geometry.padding
        padded = padding != "valid" and (isinstance(padding, str) or any(low or high for low, high in padding))
        return Node(call.name, kind, call.moving[:1], call.outputs, kernel, padded=padded, geometry=geometry)
    piece = _piece(call) if call.operation in _PIECES else None
    if piece is not None:
        return piece
    return Node(
        call.name,
        SAME.get(call.operation, call.operation),
        call.moving,
        call.outputs,
        limits=_limits(call),
        setting=_setting(call),
        order=_order(call),
        window=_window(call),
    )


def _window(call: OperatorCall) -> tuple[int, ...]:
    """Return how long the windows of an average pool are along each axis."""
    size = call.arguments.get("kernel_size")
    rank = {"avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3}.get(call.operation, 0)
    lengths = size if isinstance(size, Sequence) and not isinstance(size, str) else [size] * rank
    whole = rank > 0 and all(isinstance(one, int) for one in lengths)
    return tuple(lengths) * (rank if len(lengths) == 1 else 1) if whole else ()


def _linear(call: OperatorCall) -> tuple[Kernel, str, Geometry] | None:
    arguments, operation = call.arguments, call.operation
    if operation in {"addmm", "mm", "matmul"}:
        return _product(call)
    weight, bias = arguments.get("weight"), arguments.get("bias")
    if not isinstance(weight, np.ndarray) or isinstance(bias, str) or not call.moving:
        return None
    dtype = call.dtypes.get("weight", "float32")
    narrow = dtype in network.NARROW
    if operation == "linear":
        return Kernel(network.dense(weight.T), bias, dtype=dtype, narrow=narrow), network.DENSE, Geometry()
    groups = int(arguments.get("groups") or 1)
    if operation in _TRANSPOSED or (operation in _CONVOLUTIONS and arguments.get("transposed")):
        kernel = Kernel(network.transposed(weight, groups), bias, groups, dtype, narrow=narrow)
        return kernel, network.TRANSPOSED, _geometry(weight, arguments)
    if operation in _CONVOLUTIONS:
        kind = network.DEPTHWISE if groups > 1 and weight.shape[1] == 1 else network.CONVOLUTION
        kernel = Kernel(network.convolution(weight, groups), bias, groups, dtype, narrow=narrow)
        return kernel, kind, _geometry(weight, arguments)
    return None


def _product(call: OperatorCall) -> tuple[Kernel, str, Geometry] | None:
    """Return a product with a constant matrix, and what is added to it."""
    name = {"addmm": "mat2", "mm": "mat2", "matmul": "other"}[call.operation]
    weight = call.arguments.get(name)
    bias = call.arguments.get("self") if call.operation == "addmm" else None
    plain = all(call.arguments.get(one, 1) == 1 for one in ("alpha", "beta"))
    if not isinstance(weight, np.ndarray) or weight.ndim != 2 or isinstance(bias, str) or not plain or not call.moving:
        return None
    if bias is not None and bias.ndim != 1:
        return None
    return Kernel(network.dense(weight), bias, dtype=call.dtypes.get(name, "float32")), network.DENSE, Geometry()


def _geometry(weight: Array, arguments: Mapping[str, Any]) -> Geometry:
    rank = weight.ndim - 2
    padding = arguments.get("padding", 0)
    pads: tuple[tuple[int, int], ...] | str
    if isinstance(padding, str):
        # torch's own `same` puts the odd zero behind, as TensorFlow does; `valid` is none.
        pads = "same" if padding == "same" else ((0, 0),) * rank
    else:
        pads = tuple((one, one) for one in _each(padding, rank, 0))
    return Geometry(
        tuple(int(size) for size in weight.shape[2:]),
        _each(arguments.get("stride"), rank, 1),
        pads,
        _each(arguments.get("dilation"), rank, 1),
        _each(arguments.get("output_padding"), rank, 0),
        channel_axis=1,
    )


def _each(value: Any, rank: int, default: int) -> tuple[int, ...]:
    """Return one number for each axis; one may stand for all."""
    numbers = [int(one) for one in value] if isinstance(value, (list, tuple)) else [] if value is None else [int(value)]
    if not numbers:
        return (default,) * rank
    return tuple(numbers) if len(numbers) == rank else (numbers[0],) * rank


def _piece(call: OperatorCall) -> Node | None:
    first, second = call.arguments.get("self"), call.arguments.get("other")
    if call.arguments.get("alpha", 1) != 1 or len(call.moving) != 1 or not call.outputs:
        return None
    constant = first if isinstance(first, np.ndarray) else second
    if isinstance(constant, (int, float)) and not isinstance(constant, bool):
        constant = np.asarray(constant, np.float64)
    if not isinstance(constant, np.ndarray) or constant.dtype.kind != "f":
        return None
    name = "self" if constant is first else "other"
    return channel_chains.scale_and_shift(
        Piece(
            call.name,
            _PIECES[call.operation],
            call.moving[0],
            call.outputs[0],
            constant,
            constant is first,
            call.dtypes.get(name, "float32"),
        )
    )


def _limits(call: OperatorCall) -> ActivationLimits | None:
    operation = call.operation.rstrip("_")
    if operation in RELUS:
        return RELUS[operation]
    low, high = {
        "hardtanh": (call.arguments.get("min_val", -1), call.arguments.get("max_val", 1)),
        "clamp": (call.arguments.get("min"), call.arguments.get("max")),
        "clamp_min": (call.arguments.get("min"), None),
        "clamp_max": (None, call.arguments.get("max")),
    }.get(operation, ("", ""))
    if isinstance(low, str) or isinstance(high, str):
        return None
    return ActivationLimits(-float("inf") if low is None else float(low), float("inf") if high is None else float(high))


def _setting(call: OperatorCall) -> str:
    if call.operation == "sigmoid":
        return "elementwise"
    axis = call.arguments.get("dim")
    return f"axis {axis}" if call.operation in {"softmax", "_softmax", "argmax"} and isinstance(axis, int) else ""


def _order(call: OperatorCall) -> tuple[int, ...]:
    order = call.arguments.get("dims")
    return tuple(int(one) for one in order) if call.operation == "permute" and isinstance(order, list) else ()
