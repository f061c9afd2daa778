"""Quantised tensors: the numbers that one can hold, and how far what a file holds is from what the model says.

A quantised tensor holds whole numbers q that mean `step * (q - zero)`, low <= q <= high; step and zero may differ
between channels. Positions are counted in steps: a value v lies at v / step + zero, which need not be whole.

Traps: weights of int8 are symmetric (zero 0) and often narrow (-127 to 127); uint8 ones have a zero point, and padding
is that zero point, not 0; a bias is int32 (int64 beside int16 activations) with the step s_x * s_w and no zero point;
relu and relu6 are limits of the output's position, rounded to whole ones by the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.activation import NONE, Activation
from bninspect.errors import BninspectError
from bninspect.records import Array
from bninspect.safe_text import printable

RANGES = {
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
}


@dataclass(frozen=True, eq=False)
class Grid:
    """What the whole numbers of a tensor mean; step and zero are (), or (channels,) along its last axis here."""

    step: Float64
    zero: Float64
    low: int
    high: int

    @classmethod
    def of(cls, dtype: str, step: Array | float, zero: Array | float = 0) -> Grid:
        """Return the grid of a type with a step and a zero point.

        Raises:
            BninspectError: there is no such type, or a step is not a positive number.
        """
        if dtype not in RANGES:
            raise BninspectError(f"no such quantised type: {printable(dtype)}")
        made = cls(np.asarray(step, np.float64), np.asarray(zero, np.float64), *RANGES[dtype])
        if not (np.isfinite(made.step).all() and (made.step > 0).all()):
            raise BninspectError("a quantisation step is not a positive number")
        return made

    def numbers(self, q: Array) -> Float64:
        """Return what whole numbers mean: step * (q - zero), channels last."""
        return np.asarray((q.astype(np.float64) - self.zero) * self.step)

    def positions(self, values: Float64) -> Float64:
        """Return where values lie, in steps and not clipped: values / step + zero."""
        return np.asarray(values / self.step + self.zero)

    def limits(self, activation: Activation = NONE) -> tuple[Float64, Float64]:
        """Return the positions between which outputs lie, those of a clipping activation included.

        Raises:
            BninspectError: the activation does more than clip; a kernel has a table for it, or a step of its own.
        """
        if not activation.is_exact:
            raise BninspectError(f"a quantised kernel does not fuse {activation.kind}")
        low, high = (np.asarray(end / self.step + self.zero) for end in activation.limits)
        return np.clip(low, self.low, self.high), np.clip(high, self.low, self.high)


def steps_off(values: Float64, bound: Float64, q: Array, grid: Grid) -> Float64:
    """Return by how many steps stored weights are further from the model's than folding explains.

    At most 0.5: rounded to the nearest. At most 1: rounded otherwise (AdaRound, GPTQ). NaN stays NaN.

    Args:
        values: that the model says, channels last.
        bound: by how much right ones may be off before they are quantised, of the same shape.
        q: what the file holds, of the same shape.
        grid: of the file's tensor.
    """
    u = precision("float32").unit
    with np.errstate(all="ignore"):
        # A file states its step in float32, and the converter divides by it in float32: u of the position each.
        off = np.abs(grid.numbers(q) - values) - bound - 3 * u * np.abs(values)
        return np.asarray(np.where(np.isnan(off), np.nan, np.maximum(off, 0.0)) / grid.step)
