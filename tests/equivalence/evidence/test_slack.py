"""What rounding on the way between two proved values may have done: known, or said to be unknown, never nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bninspect.equivalence.evidence.slack import Slack
from bninspect.records.graph import DENSE, ActivationLimits, Kernel, Network, Node, Quantisation

STEP = 0.5
WHOLE = Quantisation(np.array([STEP], np.float32), np.array([0]), "int8")
FINER = Quantisation(np.array([STEP / 4], np.float32), np.array([0]), "int8")


def _network(*nodes: Node, **quantised: Quantisation) -> Network:
    return Network((), (), nodes, quantised)


def _values(**arrays: list[int]) -> dict[str, np.ndarray]:
    return {name: np.array(one, np.int8) for name, one in arrays.items()}


def test_each_rounding_on_the_way_is_a_step_and_is_passed_on() -> None:
    network = _network(
        Node("pool", "average pool", ("x",), ("a",)), Node("sum", "add", ("a", "x"), ("y",)), a=WHOLE, y=FINER
    )
    slack = Slack(network, _values(a=[3], y=[9]), {"x"})
    assert slack.of("x") == 0.0
    assert slack.of("a") == STEP
    assert slack.of("y") == STEP + STEP / 4


def test_floats_that_are_only_rounded_lose_half_a_step_and_nothing_the_second_time() -> None:
    """A kernel for integers may be off by a whole one."""
    nodes = (
        Node("q", "identity", ("x",), ("a",)),
        Node("d", "identity", ("a",), ("b",)),
        Node("t", "transpose", ("b",), ("c",)),
        Node("q2", "identity", ("c",), ("y",)),
    )
    network = Network((), (), nodes, {"a": WHOLE, "y": WHOLE}, {"b": WHOLE})
    values = _values(a=[3], y=[3]) | {name: np.array([1.5], np.float32) for name in "xbc"}
    slack = Slack(network, values, {"x"})
    assert slack.of("a") == slack.of("y") == pytest.approx(STEP / 2, rel=0.04)
    assert Slack(network, values | {"x": np.array([3], np.int8)}, {"x"}).of("a") == STEP


@pytest.mark.parametrize(("operation", "steepest"), [("logistic", 0.25), ("softmax", 0.5), ("hard swish", 1.5)])
def test_functions_pass_on_as_much_as_they_are_steep(operation: str, steepest: float) -> None:
    network = _network(Node("q", "identity", ("x",), ("a",)), Node("f", operation, ("a",), ("y",)), a=WHOLE)
    assert Slack(network, _values(a=[3]), {"x"}).of("y") == steepest * STEP


def test_what_is_not_known_is_no_bound_and_is_named() -> None:
    network = _network(Node("q", "identity", ("x",), ("a",)), Node("f", "lgamma", ("a",), ("y",)), a=WHOLE)
    slack = Slack(network, _values(a=[3]), {"x"})
    assert math.isinf(slack.of("y"))
    assert slack.unknown == "lgamma"


def test_numbers_in_half_precision_move_what_they_are_multiplied_with_or_added_to() -> None:
    nodes = Node("m", "mul", ("x",), ("a",), constants="float16"), Node("s", "add", ("a",), ("y",), constants="float32")
    values = {name: np.array([[2.0, size]], np.float32) for name, size in (("x", 1.0), ("a", 8.0), ("y", 9.0))}
    assert Slack(_network(*nodes), values, {"x"}).of("y") == 2 * 2.0**-11 * 8
    # Whole numbers that are added may have been rounded to anything.
    unsaid = nodes[0], Node("s", "add", ("a",), ("y",))
    assert math.isinf(Slack(_network(*unsaid), values, {"x"}).of("y"))


def test_lengths_are_not_rounded() -> None:
    network = _network(
        Node("q", "identity", ("x",), ("a",)),
        Node("s", "shape", ("a",), ("n",)),
        Node("g", "gather", ("n",), ("m",)),
        a=WHOLE,
    )
    assert Slack(network, _values(a=[3]), {"x"}).of("m") == 0.0


def test_quotients_are_bounded_while_the_divisor_is_away_from_zero() -> None:
    nodes = (Node("q", "identity", ("x",), ("a",)), Node("d", "div", ("a", "b"), ("y",)))
    values = _values(a=[8]) | {"b": np.array([4.0]), "y": np.array([1.0])}
    assert Slack(_network(*nodes, a=WHOLE), values, {"x", "b"}).of("y") == STEP / 4
    assert math.isinf(Slack(_network(*nodes, a=WHOLE), values | {"b": np.zeros(1)}, {"x", "b"}).of("y"))


def test_weights_that_were_rounded_to_halves_count_where_the_kernel_was_not_given() -> None:
    kernel = Kernel(np.full((1, 2, 1), 3.0), dtype="float16")
    network = _network(Node("dense", DENSE, ("x",), ("y",), kernel))
    slack = Slack(network, {"x": np.array([5.0, -7.0])}, {"x"})
    assert slack.of("y") == 7.0 * 6.0 * 2.0**-11


def test_int16_tables_are_coarser_than_a_step() -> None:
    wide = Quantisation(np.array([2.0**-15], np.float32), np.array([0]), "int16")
    network = _network(Node("tanh", "tanh", ("x",), ("y",)), y=wide)
    assert Slack(network, {"y": np.array([5], np.int16)}, {"x"}).of("y") > 12.1 * 2.0**-15


@pytest.mark.parametrize(
    ("stored", "limits", "cut"),
    [
        ([5, 100], None, False),
        ([5, 127], None, True),
        ([-128, 5], None, True),
        # The activation ends where the type does: nothing is lost.
        ([-128, 5], ActivationLimits(-64.0, math.inf), False),
        ([-128, 5], ActivationLimits(-math.inf, math.inf), True),
    ],
)
def test_values_at_the_end_of_their_type_may_be_beyond_it(
    stored: list[int], limits: ActivationLimits | None, *, cut: bool
) -> None:
    network = _network(
        Node("sum", "add", ("x", "z"), ("a",), limits=limits), Node("p", "pool", ("a",), ("y",)), a=WHOLE
    )
    assert Slack(network, _values(a=stored), {"x", "z"}).is_cut("y") is cut


def test_a_grid_that_is_passed_on_cuts_nothing_off() -> None:
    network = _network(Node("p", "max pool", ("x",), ("y",)), x=WHOLE, y=WHOLE)
    assert not Slack(network, _values(x=[127], y=[127]), {"x"}).is_cut("y")
    assert Slack(_network(Node("p", "max pool", ("x",), ("y",)), x=WHOLE, y=FINER), _values(y=[127]), {"x"}).is_cut("y")
