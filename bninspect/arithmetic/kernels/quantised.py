"""Element-wise operations, means and activations on whole numbers, as quantised kernels compute them.

Each returns `Steps`: exact positions of the output, and half a step and the kernel's own error as their bound
(requantisation.py).
"""

from __future__ import annotations

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.activation import NONE, Activation, activate, activated_bound
from bninspect.arithmetic.kernels.expectation import Expected
from bninspect.arithmetic.kernels.grid import Grid
from bninspect.arithmetic.kernels.products import Exact
from bninspect.arithmetic.kernels.requantisation import (
    Requantisation,
    Steps,
    multiplication_error,
    on_grid,
    quantise,
)
from bninspect.errors import BninspectError
from bninspect.records import Array

_U = precision("float32").unit


def multiply_steps(
    a: Float64, b: Float64, multiplier: float, output: Grid, kernel: Requantisation, activation: Activation = NONE
) -> Steps:
    """Return what a quantised MUL is expected to return; a and b are whole numbers less their zero points."""
    m = np.asarray(multiplier, np.float64)
    steps = a * b * m
    return on_grid(steps, multiplication_error(kernel, m, np.abs(steps)), output, activation)


def add_steps(
    a: Float64,
    b: Float64,
    *,
    a_step: float,
    b_step: float,
    output: Grid,
    kernel: Requantisation,
    activation: Activation = NONE,
) -> Steps:
    """Return what a quantised ADD is expected to return, a SUB of the negative; both less their zero points.

    LiteRT's built-in kernel shifts both inputs left by 20 bits (15 for int16), brings each to twice the larger step
    with a 31-bit multiplier, adds, and brings the sum to the output's step. An input is rounded twice on the way, by at
    most one unit of 2 max(s_a, s_b) / 2^20 together, and 2^-31 of itself; the sum as in FIXED. XNNPACK multiplies by
    21-bit numbers: 2^-20 of each input and half a step; MLAS by float32.
    """
    step = float(output.step)
    parts = np.abs(a) * (a_step / step), np.abs(b) * (b_step / step)
    size = parts[0] + parts[1]
    twice = 2 * max(a_step, b_step)
    match kernel:
        case Requantisation.FIXED | Requantisation.FIXED16:
            shift = 20 if kernel is Requantisation.FIXED else 15
            unit = np.asarray(twice / (2.0**shift * step))
            error = 2 * unit + 2.0**-30 * size + multiplication_error(Requantisation.FIXED, unit, size)
        case _:
            error = (2.0**-20 + 4 * _U) * size
    return on_grid(a * (a_step / step) + b * (b_step / step), np.asarray(error), output, activation)


def rescale_steps(exact: Exact, multiplier: float, output: Grid, kernel: Requantisation) -> Steps:
    """Return what a quantised pooling, concatenation or change of step is expected to return.

    Args:
        exact: of whole numbers, zero point subtracted: an average has the division in it.
        multiplier: s_x / s_y.
        output: grid of y.
        kernel: that computed it.
    """
    m = np.asarray(multiplier, np.float64)
    steps = exact.value * m
    return on_grid(steps, multiplication_error(kernel, m, np.abs(steps)), output)


def mean_steps(exact: Exact, x: Grid, output: Grid, kernel: Requantisation) -> Steps:
    """Return what a quantised MEAN is expected to return, from the exact mean of whole numbers less the zero point.

    LiteRT's built-in kernels divide the 31-bit multiplier by the number n of elements, a unit in its last place more
    (2^-30 of the value), or multiply the sum by that of s_x / (n s_y); for an average over height and width that sum
    is of q itself, and what the zero point takes away, z s_x / s_y, is rounded to a whole number on its own.
    """
    m = np.asarray(x.step / output.step, np.float64)
    steps = exact.value * m
    size = np.abs(steps)
    if kernel is Requantisation.FIXED:
        taken = x.zero * m
        alone = np.abs(np.rint(taken) - taken) + _U * np.abs(taken)
        error = multiplication_error(kernel, m / exact.terms, size + np.abs(taken)) + 2.0**-30 * size + alone
    else:
        error = multiplication_error(kernel, m, size) + 2.0**-30 * size
    return on_grid(steps, error, output)


def activation_steps(activation: Activation, q: Array, x: Grid, output: Grid, kernel: Requantisation) -> Steps:
    """Return what a quantised activation that is an operation of its own is expected to return.

    Clipping ones change the step; leaky relu has a multiplier for each sign. Hard swish of LiteRT's built-in kernels
    has 15-bit multipliers: 2^-12 of the value and 2^-6 are allowed for, which is measured (0.517 steps seen), not
    derived. The others are read from a table of 256 entries that was computed in float32: half a step, and the error
    of that float kernel.

    Args:
        activation: of any kind.
        q: whole numbers of the input.
        x: their grid.
        output: grid of y.
        kernel: that computed it.

    Raises:
        BninspectError: the table is interpolated (more than 8 bits; up to 26 steps seen): nothing is derived for it.
    """
    m = np.asarray(x.step / output.step, np.float64)
    shifted = q.astype(np.float64) - x.zero
    if activation.is_exact:
        steps = shifted * m
        return on_grid(steps, multiplication_error(kernel, m, np.abs(steps)), output, activation)
    if activation.kind == "leaky_relu":
        m = np.where(shifted >= 0, m, m * activation.alpha)
        steps = shifted * m
        return on_grid(steps, multiplication_error(kernel, np.abs(m), np.abs(steps)), output)
    if x.high - x.low > 255:
        raise BninspectError(f"an interpolated table of {activation.kind} has no bound")
    z = x.numbers(q)
    value = activate(activation, z)
    table = quantise(Expected(value, activated_bound(activation, z, 3 * _U * np.abs(z), y=value)), output)
    if activation.kind != "hard_swish":
        return table
    return Steps(table.value, table.bound + 2.0**-12 * np.abs(value / output.step) + 2.0**-6, table.saturated)
