"""A step that a file claims is held against what its numbers need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.layers import frozen, layer

from bninspect.equivalence import folding
from bninspect.equivalence.evidence import cut_off
from bninspect.equivalence.evidence.cut_off import CutOff
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
    seen = {"y": CutOff("conv", cut, 100, needs)}
    return claims.of_range(place, Proof(None, needs=needs), Network((), (), (node,), {"y": grid}), seen)


def test_a_range_that_holds_what_the_batch_norm_returns_is_fine() -> None:
    assert _of_range(-4.5, 4.5, (-4.0, 4.0)) == ""
    assert _of_range(-1.0, 1.0, (-1.2, 1.0), cut=0.05) == ""
    assert _of_range(0.0, 4.0, (0.0, 3.0)) == ""
    # What was seen needs it, whatever the batch norm says.
    assert _of_range(-40.0, 40.0, (-39.0, 20.0)) == ""
    # relu6 cuts off, not its range, and one that reaches up to it claims no more than the model does.
    assert _of_range(0.0, 6.0, (0.0, 0.1), limits=ActivationLimits(0.0, 6.0)) == ""
    assert _of_range(0.0, 0.5, (0.0, 0.5), cut=0.3, limits=ActivationLimits(0.0, 0.5)) == ""


def test_a_range_that_was_made_for_other_data_is_named() -> None:
    assert "5 times what its batch norm returns" in _of_range(-30.0, 30.0, (-3.0, 3.0))
    assert "4.17 times what its batch norm returns" in _of_range(0.0, 25.0, (0.0, 3.0))
    both = "cuts off 29 % of what its batch norm returns and 20 % of what was seen"
    assert both in _of_range(-0.8, 0.8, (-3.0, 3.0), cut=0.2)
    # Half of what is below 0 is what a relu takes away, and no fault of the range.
    assert "cuts off 14 %" in _of_range(0.0, 0.9, (0.0, 3.0), cut=0.2)
    # Seen, but not what the model is made for, and the other way round.
    assert _of_range(-3.0, 3.0, (-9.0, 9.0), cut=0.3) == ""
    assert _of_range(-0.8, 0.8, (-0.8, 0.8), cut=0.0) == ""


def test_a_range_is_found_behind_what_cuts_off_and_passes_on() -> None:
    """OpenVINO's FakeQuantize and ONNX's QuantizeLinear come behind the relu; a pooling between says other things."""
    kernel = Kernel(np.ones((1, 1, 2)))
    nodes = [
        Node("conv", CONVOLUTION, ("x",), ("a",), kernel),
        Node("relu", "relu", ("a",), ("b",), limits=ActivationLimits(0.0, np.inf)),
        Node("steps", "identity", ("b",), ("y",)),
    ]
    grid = Quantisation(np.array([0.9 / 255]), np.array([0.0]), "float32", levels=256)
    place = Place(nodes[0], folding.plain(kernel), nodes[0], (SourceNorm(NORM, folding.affine(NORM), nodes[0], 0),))
    stored = {"b": np.full((2, 2), 2.0, np.float32)}
    seen = dict(cut_off.seen(Network((), (), tuple(nodes), {"y": grid}), stored, (), {}))
    assert seen == {"y": CutOff("steps", 1.0, 2, (0.0, 2.0))}
    said = claims.of_range(place, Proof(None), Network((), (), tuple(nodes), {"y": grid}), seen)
    assert "its range of 0 to 0.9 cuts off 14 %" in said
    nodes[1] = Node("pool", "max pool", ("a",), ("b",))
    assert claims.of_range(place, Proof(None), Network((), (), tuple(nodes), {"y": grid}), seen) == ""


def test_data_that_a_range_cuts_off_much_of_is_named() -> None:
    fine = CutOff("tail", 0.04, 10000, (0.0, 1.0))
    small = CutOff("logits", 3 / 16, 16, (0.0, 1.0))  # three of 16 numbers: NNCF's ranges are means of the largest
    assert claims.of_data({"a": fine, "b": small}) == ""
    wrong = {"c": CutOff("relu", 0.26, 512, (0.0, 1.0)), "d": CutOff("pool", 0.69, 16, (0.0, 1.0))}
    said = claims.of_data({"a": fine, "b": small, **wrong})
    assert said == "69 % of the numbers at pool are cut off, and more than 5 % at 1 further"
