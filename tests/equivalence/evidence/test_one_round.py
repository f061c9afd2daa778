"""What is looked at of both: limits that no number reached, and of the model as little as will do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from bninspect.equivalence.evidence import one_round
from bninspect.equivalence.evidence.rounds import Subject
from bninspect.records import Array
from bninspect.records.graph import ActivationLimits, Network, Node, Value

RELU, RELU6 = ActivationLimits(0.0, np.inf), ActivationLimits(0.0, 6.0)


def _network(*limits: ActivationLimits) -> Network:
    nodes = []
    for place, one in enumerate(limits):
        nodes.append(Node(f"sum {place}", "add", ("x", "x"), (f"s{place}",)))
        nodes.append(Node(f"act {place}", "relu", (f"s{place}",), (f"a{place}",), limits=one))
    return Network((Value("x", (1, 2), "float32"),), (Value("a1", (1, 2), "float32"),), tuple(nodes))


def _unreached(own: Network, other: Network, numbers: float) -> list[str]:
    values = {f"a{place}": np.full((1, 2), numbers) for place in range(3)}
    subject = Subject(own, other, None, None, True, ())  # type: ignore[arg-type]  # nothing is run
    return list(one_round._unreached(subject, (), values, values))


def test_limits_that_were_exchanged_have_to_be_reached() -> None:
    own, other = _network(RELU6, RELU), _network(RELU, RELU6)
    assert len(_unreached(own, other, 2.0)) == 2
    assert _unreached(own, other, 6.0) == []


@pytest.mark.parametrize("limits", [(RELU6, RELU6), (RELU, RELU), ()])
def test_where_all_are_the_same_there_is_nothing_to_exchange(limits: tuple[ActivationLimits, ...]) -> None:
    assert _unreached(_network(*limits), _network(*limits), 2.0) == []


def test_a_limit_that_one_of_them_has_not_has_to_be_reached() -> None:
    assert len(_unreached(_network(RELU6, RELU6), _network(RELU6), 2.0)) == 3


def test_of_the_model_only_what_nobody_knows_is_computed_again() -> None:
    asked: list[list[str]] = []

    def replay(_: Any, __: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        asked.append(list(wanted))
        return {name: np.full((1, 2), 7.0) for name in asked[-1]}

    network, data = _network(RELU, RELU), [np.ones((1, 2), np.float32)]

    def looked_at(seen: Sequence[Array], outlines: Mapping[str, Value]) -> dict[str, Array]:
        returned = {"a1": np.full((1, 2), 3.0)}
        subject = Subject(network, network, None, replay, True, (), 0, outlines, returned, data)  # type: ignore[arg-type]
        return one_round._looked_at(subject, seen, ["a1"])

    outlines = {"x": Value("x", (1, 2), "float32")}
    first = looked_at(data, outlines)
    assert first["x"].shape == (1, 2)
    assert first["x"].dtype == np.float32
    assert first["a1"].max() == 3.0
    assert asked == []
    assert looked_at(list(data), outlines)["a1"].max() == 7.0  # other input: what came out the first time is not it
    assert looked_at(data, {})["x"].max() == 7.0
    assert asked == [["a1"], ["x"]]
