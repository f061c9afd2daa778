"""Which values of an IR are constants: stored ones, and what only converts, reshapes or dequantises those."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.openvino.model import IrGraph, IrOperation
from bninspect.records import Array
from bninspect.safe_text import printable

_RESHAPES = ("reshape", "unsqueeze", "squeeze")
_LONGEST_CHAIN = 8


@dataclass(frozen=True, eq=False)
class IrConstant:
    """A constant, dequantised if need be."""

    values: Array
    dtype: str
    """Stored type of the numbers."""
    name: str
    step: Array | None = None
    """Quantisation step of each number, of a shape that broadcasts against them; None for floats."""
    scaled: str = "float32"
    """Type to which that step was rounded."""
    counted: str = ""
    """Type in which their places between the ends of a range were found, as FakeQuantize does: that of the graph."""

    @property
    def rounded(self) -> str:
        """Type to which the numbers were rounded, as far as their step does not say it."""
        return self.dtype if self.step is None else "float32"


class IrConstants:
    """The constants of a graph. Numbers are read when somebody asks for them."""

    def __init__(self, graph: IrGraph) -> None:
        self._makers = {value: operation for operation in graph.operations for value in operation.outputs}
        self._known: set[str] = set()
        for operation in graph.operations:  # in the order of computation
            if operation.kind == "const" or (operation.inputs and self._known.issuperset(operation.inputs)):
                self._known.update(operation.outputs)

    def __contains__(self, value: str) -> bool:
        return value in self._known

    def made(self, operation: IrOperation) -> bool:
        """Return whether all that an operation gives is constant."""
        return bool(operation.outputs) and self._known.issuperset(operation.outputs)

    def get(self, value: str, depth: int = 0) -> IrConstant | None:
        """Return a constant; None if the graph computes it, or computes it of constants in a way that is not read.

        Raises:
            DamagedFile: numbers and their scale do not fit each other.
            UnreadableFile: it is of a type that is not read.
        """
        maker = self._makers.get(value)
        if maker is None or value not in self._known or depth > _LONGEST_CHAIN:
            return None
        if maker.stored is not None:
            return IrConstant(maker.stored.values, maker.stored.dtype, maker.name)
        inner = self.get(maker.takes(0), depth + 1)
        if inner is None:
            return None
        if maker.kind == "convert":
            return inner
        if maker.kind in _RESHAPES:
            return _reshaped(inner, maker)
        if maker.kind in {"multiply", "subtract"}:
            other = self.get(maker.takes(1), depth + 1)
            return None if other is None else _dequantised(inner, other, maker)
        if maker.kind == "fakequantize":
            ends = [self.get(name, depth + 1) for name in maker.inputs[1:5]]
            ranges = [end.values for end in ends if end is not None]
            return _quantised(inner, ranges, maker) if len(ranges) == 4 else None
        return None


def _reshaped(constant: IrConstant, maker: IrOperation) -> IrConstant | None:
    shape = tuple(length for length in maker.shapes[0] if length is not None)
    if len(shape) != len(maker.shapes[0]) or int(np.prod(shape)) != constant.values.size:
        return None
    step = None
    if constant.step is not None:
        step = np.broadcast_to(constant.step, constant.values.shape).reshape(shape)
    return replace(constant, values=constant.values.reshape(shape), step=step)


def _dequantised(constant: IrConstant, other: IrConstant, maker: IrOperation) -> IrConstant | None:
    """Return `(whole - zero)` or `whole * scale` in float64; None of what holds no whole numbers."""
    whole = constant.dtype.startswith(("int", "uint")) and constant.step is None
    if not whole:
        return None
    _require_fitting(constant, other.values, maker)
    with np.errstate(all="ignore"):
        wide = constant.values.astype(np.float64)
        if maker.kind == "subtract":
            return replace(constant, values=wide - other.values.astype(np.float64))
        scale = other.values.astype(np.float64)
        return replace(constant, values=wide * scale, step=np.abs(scale), scaled=other.dtype, counted=maker.dtypes[0])


def _quantised(constant: IrConstant, ends: list[Array], maker: IrOperation) -> IrConstant:
    """Return what a FakeQuantize makes of stored floats: `levels` even steps between two ends, in float64."""
    levels = maker.real("levels", 0)
    if levels < 2:
        raise DamagedFile("a FakeQuantize has no levels", why=printable(maker.name))
    for end in ends:
        _require_fitting(constant, end, maker)
    low, high, out_low, out_high = (end.astype(np.float64) for end in ends)
    with np.errstate(all="ignore"):
        inside = np.clip(constant.values.astype(np.float64), np.minimum(low, high), np.maximum(low, high))
        step = (out_high - out_low) / (levels - 1)
        values = np.rint((inside - low) / (high - low) * (levels - 1)) * step + out_low
    return IrConstant(values, constant.dtype, constant.name, np.abs(step))


def _require_fitting(constant: IrConstant, other: Array, maker: IrOperation) -> None:
    """Raise DamagedFile unless `other` broadcasts against a constant without making it larger."""
    shape = constant.values.shape
    if other.ndim > len(shape) or any(
        own not in {1, length} for own, length in zip(other.shape[::-1], shape[::-1], strict=False)
    ):
        why = f"{printable(maker.name)} takes constants of shape {shape} and {other.shape}"
        raise DamagedFile("constants do not fit each other", why=why)
