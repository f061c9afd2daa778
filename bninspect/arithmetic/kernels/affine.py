"""Chains of Sub, Mul, Div and Add with one number per channel, and the batch norms that converters leave in them.

A batch norm comes out of a converter as Mul and Add, as Sub, Mul, Add, as Sub, Div, Mul, Add, or in any other order,
over any axis, the numbers in any shape that broadcasts, with the channel on either side (c - x, c / x are other
operations). Each step rounds once.

The bound runs along with the chain (running error analysis, Higham 2002, section 3.3): if z is off by e before, after

    z + c  it is off by  e + dc + r          r = u (|z + c| + e + dc) + tiny
    z * c                e|c| + |z|dc + e dc + r
    z / c                (e + |z/c| dc) / (|c| - dc) + r,  NaN unless dc < |c|

dc is by how much the constant may be off. No first-order term is dropped, and cancellation is seen where it happens:
the bound is relative to what was there before it. The reference rounds too, so that u is that of the kernel and of
float64 together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.errors import BninspectError
from bninspect.records import Array
from bninspect.safe_text import printable

STEPS = ("add", "subtract", "multiply", "divide")


@dataclass(frozen=True, eq=False)
class Step:
    """One operation between what flows and a constant that broadcasts against it as NumPy has it."""

    kind: str
    """One of STEPS."""
    constant: Array
    bound: Array | None = None
    """By how much each constant may be off; None if the file holds this number."""
    reversed: bool = False
    """Whether the constant stands on the left: c - z, c / z."""

    def __post_init__(self) -> None:
        if self.kind not in STEPS:
            raise BninspectError(f"no such step of a chain: {printable(self.kind)}")


@dataclass(frozen=True, eq=False)
class Traced:
    """What a chain makes of its input, and by how much a kernel's result may be off; both of the output's shape."""

    value: Float64
    bound: Float64


def follow(steps: Sequence[Step], x: Array, arithmetic: str = "float32") -> Traced:
    """Return what a chain makes of x, and by how much a kernel that rounds each step may be off.

    Args:
        steps: in the order of computation.
        x: any shape, floats.
        arithmetic: type in which each step is rounded.

    Raises:
        BninspectError: a constant does not broadcast against what flows.
    """
    kernel = precision(arithmetic)
    narrow = arithmetic in {"float16", "bfloat16"}  # computed in float32, then rounded: twice
    unit = kernel.unit + precision("float32" if narrow else "float64").unit * (1 + kernel.unit)
    value = x.astype(np.float64)
    bound = np.zeros(value.shape)
    with np.errstate(all="ignore"):
        for step in steps:
            constant = np.asarray(step.constant, np.float64)
            off = np.zeros(()) if step.bound is None else np.asarray(step.bound, np.float64)
            try:
                value, bound = _take(step, value, bound, constant, off, kernel.tiny)
            except ValueError:
                raise BninspectError(f"constants of shape {constant.shape} do not fit {value.shape}") from None
            bound = bound + (unit * (np.abs(value) + bound) + kernel.tiny)
    return Traced(value, bound * (1 + 64 * precision("float64").unit))  # the bound is itself computed


def _take(
    step: Step, value: Float64, bound: Float64, constant: Float64, off: Float64, tiny: float
) -> tuple[Float64, Float64]:
    """Return value and bound after a step, without its own rounding; operands below tiny may be flushed."""
    bound, off = bound + tiny, off + tiny
    match step.kind:
        case "add":
            return value + constant, bound + off
        case "subtract":
            return (constant - value if step.reversed else value - constant), bound + off
        case "multiply":
            return value * constant, bound * (np.abs(constant) + off) + np.abs(value) * off
        case _:
            above, below = (constant, value) if step.reversed else (value, constant)
            above_off, below_off = (off, bound) if step.reversed else (bound, off)
            quotient = above / below
            room = np.abs(below) - below_off
            return quotient, np.where(room > 0, (above_off + np.abs(quotient) * below_off) / room, np.nan)


def compose(steps: Sequence[Step]) -> tuple[Traced, Traced]:
    """Return the scale and the shift that a chain amounts to, y = scale * x + shift, exact for the file's constants.

    The bounds are by how much each may be off because the constants are; there is no rounding in them but the
    reference's own. The shapes are those that the constants broadcast to.

    Raises:
        BninspectError: the chain divides a constant by what flows, or shapes do not fit.
    """
    scale, scale_off = np.ones(()), np.zeros(())
    shift, shift_off = np.zeros(()), np.zeros(())
    with np.errstate(all="ignore"):
        for step in steps:
            constant = np.asarray(step.constant, np.float64)
            off = np.zeros(()) if step.bound is None else np.asarray(step.bound, np.float64)
            if step.reversed and step.kind == "divide":
                raise BninspectError("a chain that divides by its input is not affine")
            try:
                shift, shift_off = _take(step, shift, shift_off, constant, off, 0.0)
                if step.kind in {"multiply", "divide"}:
                    scale, scale_off = _take(step, scale, scale_off, constant, off, 0.0)
                elif step.reversed and step.kind == "subtract":
                    scale = -scale
            except ValueError:
                raise BninspectError(f"constants of shape {constant.shape} do not fit {shift.shape}") from None
    reference = 2 * (len(steps) + 1) * precision("float64").unit
    return (
        Traced(np.asarray(scale), np.asarray(scale_off + reference * np.abs(scale))),
        Traced(np.asarray(shift), np.asarray(shift_off + reference * _shift_terms(steps))),
    )


def _shift_terms(steps: Sequence[Step]) -> Float64:
    """Return the sum of the magnitudes that a shift is made of: cancellation loses digits of the reference too."""
    terms = np.zeros(())
    for step in steps:
        size = np.abs(np.asarray(step.constant, np.float64))
        if step.kind == "multiply":
            terms = terms * size
        elif step.kind == "divide":
            terms = terms / size
        else:
            terms = terms + size
    return np.asarray(terms)
