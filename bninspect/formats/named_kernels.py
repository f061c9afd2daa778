"""Kernels of files that hold weights alone: what their names and shapes say, which is less than a graph does.

A tensor of a convolution does not say in how many groups it works, nor whether it is a transposed one: of PyTorch the
first two axes are (outputs, inputs) of one and (inputs, outputs) of the other. So a kernel has readings, the likelier
one first, and numbers decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bninspect.records import Array, graph
from bninspect.records.graph import Kernel


@dataclass(frozen=True, eq=False)
class NamedKernel:
    """A kernel that a file holds by name."""

    name: str
    """Of its layer."""
    readings: tuple[tuple[str, Kernel], ...]
    """What kind of operation it may be, and its numbers in our order; `groups` is 0: nobody says."""


def of_torch(
    tensors: Mapping[str, tuple[int, ...]], read: Callable[[str], tuple[Array, str]], artefact: str = ""
) -> Iterator[NamedKernel]:
    """Yield the kernels among named tensors, by PyTorch's names: `<layer>.weight` of two axes or more, and its bias.

    Args:
        tensors: shapes by name.
        read: returns the numbers of one, and the type that they are stored in.
        artefact: a beginning of the names that says nothing, such as `module.`.
    """
    for name, shape in tensors.items():
        layer = name.removesuffix(".weight")
        if layer == name or not 2 <= len(shape) <= 5 or not all(shape):
            continue
        weights, dtype = read(name)
        bias = read(f"{layer}.bias")[0] if len(tensors.get(f"{layer}.bias", ())) == 1 else None
        readings = tuple(_of_torch(weights, bias, dtype))
        if readings:
            yield NamedKernel(layer.removeprefix(artefact), readings)


def _of_torch(weights: Array, bias: Array | None, dtype: str) -> Iterator[tuple[str, Kernel]]:
    if weights.dtype.kind != "f":
        return
    found = [(graph.DENSE, graph.dense(weights.T))] if weights.ndim == 2 else []
    if weights.ndim > 2:
        found = [(graph.CONVOLUTION, graph.convolution(weights)), (graph.TRANSPOSED, graph.transposed(weights))]
    yield from _with_bias(found, bias, dtype)


def of_keras(kind: str, arrays: Iterable[Array]) -> tuple[tuple[str, Kernel], ...]:
    """Return the readings of what a Keras layer holds: a kernel, and a bias or none.

    Args:
        kind: the class of the layer in lower case, as paths in weights files have it: `conv2d_transpose_1`.
        arrays: in the order in which the layer made them.
    """
    given = list(arrays)
    if not given or given[0].dtype.kind != "f" or not 2 <= given[0].ndim <= 5 or not given[0].size or len(given) > 2:
        return ()
    weights, bias = given[0], given[1] if len(given) == 2 else None
    inputs, outputs = weights.shape[-2:]
    plain = (graph.CONVOLUTION, weights.reshape(-1, inputs, outputs))
    turned = (graph.TRANSPOSED, np.swapaxes(weights, -1, -2).reshape(-1, outputs, inputs))
    deep = (graph.DEPTHWISE, weights.reshape(-1, 1, inputs * outputs))
    if weights.ndim == 2:
        found = [(graph.DENSE, graph.dense(weights))]
    elif "depthwise" in kind:
        found = [deep]
    else:
        found = [turned, plain] if "transpose" in kind else [plain, turned, deep]
    return tuple(_with_bias(found, bias, weights.dtype.name))


def _with_bias(found: Iterable[tuple[str, Array]], bias: Array | None, dtype: str) -> Iterator[tuple[str, Kernel]]:
    rounded = dtype if dtype in {"float16", "bfloat16"} else "float32"
    for operation, weights in found:
        if bias is None or bias.size == weights.shape[2]:
            yield operation, Kernel(weights, None if bias is None else bias.reshape(-1), 0, rounded)
