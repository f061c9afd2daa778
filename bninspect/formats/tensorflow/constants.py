"""What a graph computes from its parameters alone, before any data comes in.

Kernels may pass through a multiplication, or through a fake quantisation, on their way to the operation that takes
them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode, Tensor
from bninspect.records import Array

_DEEPEST = 16
"""Operations between a parameter and the operation that takes it."""
_PASSING = frozenset(["Identity", "ReadVariableOp", "StopGradient", "Cast", "DisableCopyOnRead", "EnsureShape"])
_ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "Mul": np.multiply,
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "RealDiv": np.divide,
    "Div": np.divide,
    "Minimum": np.minimum,
    "Maximum": np.maximum,
}
_FAKE = ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel", "FakeQuantWithMinMaxArgs")


def computed(one: Tensor, graph: FlatGraph, stored: Callable[[Tensor], Array | None], depth: int = 0) -> Array | None:
    """Return a tensor that depends on parameters alone, computed in float32 as TensorFlow does; None for any other.

    Args:
        one: the tensor.
        graph: that it is in.
        stored: returns what a parameter holds, None for what is not a parameter.
        depth: operations that lie between this tensor and the one that was asked for.
    """
    found = stored(one)
    node = graph.nodes.get(one[0])
    if found is not None or node is None or one[1] != 0 or depth > _DEEPEST:
        return found
    if node.op == "Const":
        return tensor.value(node.node.attribute("value").message(8), node.name)
    if node.op in _PASSING and node.inputs:
        return computed(node.inputs[0], graph, stored, depth + 1)
    if node.op not in _ARITHMETIC and node.op not in _FAKE:
        return None
    taken = [computed(source, graph, stored, depth + 1) for source in node.inputs]
    floats = [array for array in taken if array is not None and array.dtype.kind == "f"]
    if len(floats) != len(node.inputs) or not floats:
        return None
    try:
        with np.errstate(all="ignore"):
            return _fake(node, floats) if node.op in _FAKE else np.asarray(_ARITHMETIC[node.op](*floats))
    except ValueError:  # shapes that do not fit: what TensorFlow makes of them, it says when it runs the graph
        return None


def _fake(node: FlatNode, taken: list[Array]) -> Array | None:
    """Return what a fake quantisation makes of an array (tensorflow/core/kernels/fake_quant_ops_functor.h)."""
    if node.op == "FakeQuantWithMinMaxArgs":
        low, high = (np.asarray(node.node.real(*one), np.float32) for one in (("min", -6.0), ("max", 6.0)))
        values = taken[0]
    elif len(taken) == 3:
        values, low, high = (np.asarray(one, np.float32) for one in taken)
    else:
        return None
    bits = node.node.attribute("num_bits").integer(3, 8) if "num_bits" in node.node.attributes else 8
    least = np.float32(1 if node.node.flag("narrow_range", default=False) else 0)
    most = np.float32(2**bits - 1)
    scale = ((high - low) / (most - least)).astype(np.float32)
    zero = np.clip(np.round(least - low / scale), least, most).astype(np.float32)
    bottom, top = (least - zero) * scale, (most - zero) * scale
    clipped = np.clip(values, bottom, top) - bottom
    return np.asarray(np.floor(clipped / scale + np.float32(0.5)) * scale + bottom, np.float32)
