"""What a right kernel returns, and by how much it may be off: exact values and bounds put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.bounds import bound as norm_bound
from bninspect.arithmetic.formula import Float64, Parameters, normalise
from bninspect.arithmetic.kernels.activation import NONE, Activation, activate, activated_bound
from bninspect.arithmetic.kernels.affine import Step, follow
from bninspect.arithmetic.kernels.products import Exact
from bninspect.arithmetic.kernels.rounding import FLOAT32, Arithmetic, ratio, rounded_bound, sum_bound
from bninspect.records import Array, BatchNorm, Form


@dataclass(frozen=True, eq=False)
class Expected:
    """Values after the activation and their bounds, of one shape: rows of places, or that of the tensor itself."""

    value: Float64
    bound: Float64
    """NaN where nothing can be promised; never counted as agreement."""

    def ratios(self, actual: Array) -> Float64:
        """Return |actual - value| / bound of each element, infinite where it cannot be said; <= 1 is agreement."""
        return ratio(np.asarray(actual, np.float64), self.value, self.bound)

    def worst(self, actual: Array) -> float:
        """Return the largest ratio, 0 if there are no elements."""
        return float(self.ratios(actual).max(initial=0.0))


def expect_sum(exact: Exact, activation: Activation = NONE, arithmetic: Arithmetic = FLOAT32) -> Expected:
    """Return what a convolution, dense layer or matrix product is expected to return, rows of `exact.places`."""
    value = activate(activation, exact.value)
    bound = activated_bound(activation, exact.value, sum_bound(exact, arithmetic), arithmetic.accumulator, value)
    return Expected(value, rounded_bound(bound, value, arithmetic))


def expect_chain(
    steps: list[Step], x: Array, activation: Activation = NONE, arithmetic: Arithmetic = FLOAT32
) -> Expected:
    """Return what a chain of constants is expected to make of x, of the shape that they broadcast to."""
    traced = follow(steps, x, arithmetic.accumulator)
    value = activate(activation, traced.value)
    bound = activated_bound(activation, traced.value, traced.bound, arithmetic.accumulator, value)
    return Expected(value, rounded_bound(bound, value, arithmetic))


def expect_norm(
    source: BatchNorm | Parameters,
    x: Array,
    *,
    axis: tuple[int, ...],
    form: Form = Form.UNKNOWN,
    activation: Activation = NONE,
    arithmetic: Arithmetic = FLOAT32,
) -> Expected:
    """Return what a batch norm that survived is expected to make of x, of the shape of x; see `bounds`.

    Raises:
        BninspectError: the parameters do not fit x, or are incomplete.
    """
    parameters = Parameters.of(source, arithmetic.accumulator)
    plain = normalise(parameters, x, axis=axis, arithmetic=arithmetic.accumulator)
    kind = arithmetic.accumulator
    off = norm_bound(parameters, x, plain, form=form, axis=axis, arithmetic=kind, output=kind)
    value = activate(activation, plain)
    bound = activated_bound(activation, plain, off, kind, value)
    return Expected(value, rounded_bound(bound, value, arithmetic))
