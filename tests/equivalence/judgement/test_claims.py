"""A step that a file claims is held against what its numbers need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer

from bninspect.equivalence import folding
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.judgement import claims
from bninspect.equivalence.pairing.places import Place
from bninspect.equivalence.pairing.source_norms import SourceNorm
from bninspect.records.graph import CONVOLUTION, ActivationLimits, Kernel, Network, Node, Quantisation

GENERATOR = np.random.default_rng(0)
WEIGHTS = GENERATOR.standard_normal((9, 4, 6)) * np.array([1.0, 0.5, 3.0, 0.01, 1.0, 2.0])
LARGEST = np.abs(WEIGHTS).max(axis=(0, 1))


def _place(step: Any, weights: Any = WEIGHTS) -> Place:
    stored = Kernel(np.rint(weights / step) * step, weight_step=np.broadcast_to(step, (6,)))
    node = Node("conv", CONVOLUTION, ("x",), ("y",), stored)
    return Place(node, folding.plain(Kernel(weights)), node)


@pytest.mark.parametrize("times", [1, 2, 3.9])
@pytest.mark.parametrize("whole", [False, True])
def test_steps_of_7_and_8_bits_and_powers_of_two_are_fine(times: float, whole: bool) -> None:
    assert claims.of_weights(_place(times * (LARGEST.max() if whole else LARGEST) / 127)) == ""


@pytest.mark.parametrize("channel", [0, 3])
def test_a_step_that_is_five_times_too_large_is_named(channel: int) -> None:
    step = LARGEST / 127
    step[channel] *= 5
    assert claims.of_weights(_place(step)).startswith("the step of its weights is 5 times what they need")
    assert claims.of_weights(_place(5 * LARGEST.max() / 127)).startswith("the step of its weights is 5 times")


def test_channels_of_zeros_need_no_step() -> None:
    weights = WEIGHTS.copy()
    weights[..., 2] = 0
    assert claims.of_weights(_place(np.where(np.arange(6) == 2, 1.0, LARGEST / 127), weights)) == ""
    assert claims.of_weights(_place(np.ones(6), np.zeros_like(WEIGHTS))) == ""


NORM = layer(
    gamma=frozen([1.0, 0.5]),
    beta=frozen([0.0, 0.25]),
    moving_mean=frozen([3.0, -1.0]),
    moving_variance=frozen([4.0, 0.25]),
)
"""Returns numbers around 0 and 0.25, of spreads 1 and 0.5."""


def _of_range(
    low: float, high: float, needs: tuple[float, float], *, cut: float = 0.0, limits: ActivationLimits | None = None
) -> str:
    scale = (high - low) / 255
    kernel = Kernel(np.ones((1, 1, 2)))
    node = Node("conv", CONVOLUTION, ("x",), ("y",), kernel, limits=limits)
    grid = Quantisation(np.array([scale]), np.array([-128 - low / scale]), "int8")
    norm = SourceNorm(NORM, folding.affine(NORM), node, 0)
    place = Place(node, folding.plain(kernel), node, (norm,))
    return claims.of_range(place, Proof(None, cut=cut, needs=needs), Network((), (), (node,), {"y": grid}))


def test_a_range_that_holds_what_the_batch_norm_returns_is_fine() -> None:
    assert _of_range(-4.5, 4.5, (-4.0, 4.0)) == ""
    assert _of_range(-1.0, 1.0, (-1.2, 1.0), cut=0.01) == ""
    assert _of_range(0.0, 4.0, (0.0, 3.0)) == ""
    # What was seen needs it, whatever the batch norm says.
    assert _of_range(-40.0, 40.0, (-39.0, 20.0)) == ""
    # relu6 cuts off, not its range, and one that reaches up to it claims no more than the model does.
    assert _of_range(0.0, 6.0, (0.0, 0.1), limits=ActivationLimits(0.0, 6.0)) == ""
    assert _of_range(0.0, 0.5, (0.0, 0.5), cut=0.3, limits=ActivationLimits(0.0, 0.5)) == ""


def test_a_range_that_was_made_for_other_data_is_named() -> None:
    assert "5 times what its batch norm returns" in _of_range(-30.0, 30.0, (-3.0, 3.0))
    assert "4.17 times what its batch norm returns" in _of_range(0.0, 25.0, (0.0, 3.0))
    assert "cuts off 23 % of what its batch norm returns" in _of_range(-0.8, 0.8, (-3.0, 3.0), cut=0.23)
    # Half of what is below 0 is what a relu takes away, and no fault of the range.
    assert "cuts off 14 %" in _of_range(0.0, 0.9, (0.0, 3.0), cut=0.2)
    # Seen, but not what the model is made for, and the other way round.
    assert _of_range(-3.0, 3.0, (-9.0, 9.0), cut=0.3) == ""
    assert _of_range(-0.8, 0.8, (-0.8, 0.8), cut=0.0) == ""
