"""Chains of one number per channel, with whole numbers on the way."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.formats import channel_chains
from bninspect.formats.channel_chains import Piece
from bninspect.records.graph import BATCH_NORM, DENSE, TRANSPOSED, Geometry, Kernel, Node


def _piece(operation: str, x: str, y: str, numbers: list[float], step: float | None = None) -> Node:
    steps = None if step is None else np.array([step])
    found = channel_chains.scale_and_shift(Piece(operation, operation, x, y, np.array(numbers), step=steps))
    assert found is not None
    return found


def test_a_bias_behind_whole_numbers_and_back_is_the_bias_of_the_kernel() -> None:
    dense = Node("dense", DENSE, ("x",), ("a",), Kernel(np.ones((1, 3, 2))))
    nodes = (dense, Node("q", "identity", ("a",), ("b",)), Node("d", "identity", ("b",), ("c",)))
    (joined,) = channel_chains.join((*nodes, _piece("add", "c", "y", [1.0, 2.0])), ("y",))
    assert joined.operation == DENSE
    assert joined.kernel is not None
    np.testing.assert_array_equal(joined.kernel.bias, [1.0, 2.0])
    assert joined.outputs == ("y",)
    assert list(joined.rounds) == ["c"]


def test_not_joined_where_somebody_else_reads_what_is_between() -> None:
    dense = Node("dense", DENSE, ("x",), ("a",), Kernel(np.ones((1, 3, 2))))
    nodes = (dense, Node("q", "identity", ("a",), ("b",)), Node("other", "tanh", ("b",), ("z",)))
    assert len(channel_chains.join((*nodes, _piece("add", "b", "y", [1.0, 2.0])), ("y", "z"))) == 4


@pytest.mark.parametrize(
    ("operation", "geometry", "nodes"),
    [(TRANSPOSED, None, 1), (TRANSPOSED, Geometry(size=(3, 3), channel_axis=1), 1), (DENSE, None, 2)],
)
def test_a_bias_along_the_channels_in_front(operation: str, geometry: Geometry | None, nodes: int) -> None:
    """OpenVINO computes how long the output of a transposed convolution is, so that nobody can say how it moves."""
    kernel = Node("k", operation, ("x",), ("a",), Kernel(np.ones((9, 3, 2))), geometry=geometry)
    bias = channel_chains.scale_and_shift(Piece("add", "add", "a", "y", np.array([1.0, 2.0]).reshape(1, 2, 1, 1)))
    assert bias is not None
    assert len(channel_chains.join((kernel, bias), ("y",))) == nodes


def test_every_rounded_number_of_a_chain_counts() -> None:
    """(x + b) * a + c: b is off by half its step times a, and a by half its step times b."""
    chain = (
        _piece("add", "x", "1", [3.0, 5.0], 0.25),
        _piece("mul", "1", "2", [2.0, -4.0], 0.5),
        _piece("add", "2", "y", [1.0, 1.0], 0.125),
    )
    (joined,) = channel_chains.join(chain, ("y",))
    assert joined.operation == BATCH_NORM
    assert joined.kernel is not None
    np.testing.assert_array_equal(joined.kernel.weight_step, [0.5, 0.5])
    np.testing.assert_array_equal(joined.kernel.bias_step, [2 * 0.25 + 3 * 0.5 + 0.125, 4 * 0.25 + 5 * 0.5 + 0.125])
