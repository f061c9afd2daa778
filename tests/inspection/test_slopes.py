"""By what a channel multiplies its input, against what the formula makes of two inputs one apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer

from bninspect.inspection import description


def test_a_slope_is_how_far_two_outputs_are_apart() -> None:
    gamma, variance = np.array([2.0, -3.0, 0.0]), np.array([0.25, 4.0, 1.0])
    found = description.slopes(layer(gamma=frozen(gamma), moving_variance=frozen(variance), epsilon=0.0))
    assert found is not None
    assert (found.minimum, found.maximum) == pytest.approx((0.0, 4.0))
    assert found.quantiles[2] == pytest.approx(1.5)


def test_it_is_not_finite_where_nothing_is_above_zero() -> None:
    variance = np.array([-1.0, 0.0, 1.0])
    found = description.slopes(layer(moving_variance=frozen(variance), gamma=None, scale=False, epsilon=0.0))
    assert found is not None
    assert (found.minimum, found.maximum, found.nonfinite) == (1.0, 1.0, 2)


@pytest.mark.parametrize("missing", ["moving_variance", "epsilon"])
def test_nothing_is_known_without_a_variance_and_an_epsilon(missing: str) -> None:
    changes: dict[str, Any] = {missing: None}
    assert description.slopes(layer(**changes)) is None
