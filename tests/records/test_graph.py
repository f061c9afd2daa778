"""What is said of operations and the values between them."""

from __future__ import annotations

import numpy as np

from bninspect.records.graph import Kernel, Network, Node, first_after


def _diamond() -> Network:
    """Return x -> a -> (b, and c by a kernel) -> d."""
    kernel = Kernel(np.ones((1, 1, 1)))
    nodes = (
        Node("1", "relu", ("x",), ("a",)),
        Node("2", "relu", ("a",), ("b",)),
        Node("3", "dense", ("a",), ("c",), kernel=kernel),
        Node("4", "add", ("b", "c"), ("d",)),
    )
    return Network((), (), nodes)


def test_the_first_values_that_are_wanted_are_met_once_whatever_way_leads_there() -> None:
    network = _diamond()
    assert sorted(first_after(["x"], network, {"b", "c", "d"})) == ["b", "c"]
    assert list(first_after(["x"], network, {"d"})) == ["d"]
    assert list(first_after(["x"], network, {"x", "d"})) == ["x"]
    assert list(first_after(["x"], network, set[str]())) == []


def test_kernels_may_be_where_it_ends() -> None:
    assert list(first_after(["a"], _diamond(), {"c"}, across_kernels=False)) == []
