"""What a right kernel returns, and by how much it may be off: exact values and bounds put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.kernels.activation import NONE, Activation, activate, activated_bound
from bninspect.arithmetic.kernels.products import Exact
from bninspect.arithmetic.kernels.rounding import FLOAT32, Arithmetic, ratio, rounded_bound, sum_bound
from bninspect.records import Array


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
