"""Where layers lie in a model that is taken apart, what is kept there, and at which depths a walk stops."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.records import Array
from bninspect.runtimes.dissection import Arriving, DissectedStep, Dissection
from bninspect.statistics import depths, stops
from bninspect.statistics.frontier import IN_MEMORY, Frontier


def arriving(layer: str, x: str) -> Arriving:
    return Arriving(layer, x, lambda rank: (rank - 1,))


def residual() -> tuple[DissectedStep, ...]:
    """Return a stem, a branch of two norms beside a shortcut of one, and a norm behind their sum."""
    return (
        DissectedStep(("input",), ("stem",)),
        DissectedStep(("stem",), ("y0",), ("n0",)),
        DissectedStep(("y0",), ("a",)),
        DissectedStep(("a",), ("ya",), ("n1",)),
        DissectedStep(("ya",), ("b",)),
        DissectedStep(("b",), ("yb",), ("n2",)),
        DissectedStep(("y0",), ("s",)),
        DissectedStep(("s",), ("ys",), ("shortcut",)),
        DissectedStep(("yb", "ys"), ("sum",)),
        DissectedStep(("sum",), ("out",), ("n3",)),
    )


NORMS = (("n0", "stem"), ("n1", "a"), ("n2", "b"), ("shortcut", "s"), ("n3", "sum"))


def taken_apart(steps: tuple[DissectedStep, ...], norms: tuple[tuple[str, str], ...] = NORMS) -> Dissection:
    def run(given: object, names: object) -> dict[str, Array]:
        raise AssertionError((given, names))

    return Dissection(steps, tuple(itertools.starmap(arriving, norms)), lambda data: data, run)


def test_layers_that_do_not_lie_behind_each_other_share_a_depth() -> None:
    found = depths.of_dissection(taken_apart(residual()), ["n0", "n1", "n2", "shortcut", "n3"])
    assert [set(depth.layers) for depth in found] == [{"n0"}, {"n1", "shortcut"}, {"n2"}, {"n3"}]
    assert [set(depth.kept) for depth in found] == [{"stem"}, {"a", "s"}, {"b", "s"}, set()]


def test_a_layer_that_stays_as_it_is_is_no_depth_of_its_own() -> None:
    found = depths.of_dissection(taken_apart(residual()), ["n1", "n3"])
    assert [depth.layers for depth in found] == [("n1",), ("n3",)]
    assert set(found[0].kept) == {"a", "y0"}


def test_a_layer_of_two_branches_lies_behind_both() -> None:
    steps = (
        DissectedStep(("left",), ("l",), ()),
        DissectedStep(("l",), ("yl",), ("shared",)),
        DissectedStep(("right",), ("r1",), ()),
        DissectedStep(("r1",), ("r2",), ("other",)),
        DissectedStep(("r2",), ("yr",), ("shared",)),
    )
    norms = (("shared", "l"), ("other", "r1"), ("shared", "r2"))
    found = depths.of_dissection(taken_apart(steps, norms), ["shared", "other"])
    assert [depth.layers for depth in found] == [("other",), ("shared",)]
    assert [one.x for one in found[1].arriving] == ["l", "r2"]


def test_a_layer_that_is_called_again_behind_itself_is_refused_by_name() -> None:
    steps = (DissectedStep(("x",), ("y",), ("again",)), DissectedStep(("y",), ("z",), ("again",)))
    with pytest.raises(depths.Circle, match="again"):
        depths.of_dissection(taken_apart(steps, (("again", "x"), ("again", "y"))), ["again"])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=7),
    st.integers(0, 25),
)
def test_no_other_stops_cost_less(pieces: list[tuple[int, int]], room: int) -> None:
    unit = IN_MEMORY + 1
    seconds, sizes = [float(time) for time, _ in pieces], [size * unit for _, size in pieces]

    def cost(chosen: tuple[int, ...]) -> float:
        """Return the cost of stops, all counted one by one."""
        total, front, computed = 0.0, -1, 0.0
        for depth, time in enumerate(seconds):
            computed += time
            total += computed + (sizes[front] / stops._READ if front >= 0 else 0.0)
            if depth in chosen:
                held = sizes[depth] + (sizes[front] if front >= 0 else 0)
                if held > room * unit:
                    return float("inf")
                total += sizes[depth] / stops._WRITE
                front, computed = depth, 0.0
        return total

    inner = range(len(pieces) - 1)
    every = [chosen for count in range(len(pieces)) for chosen in itertools.combinations(inner, count)]
    found = stops.chosen(seconds, sizes, room * unit)
    assert found.seconds == pytest.approx(min(map(cost, every)))
    assert cost(tuple(sorted(found.depths))) == pytest.approx(found.seconds)
    assert found.most <= room * unit or not found.depths


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path)
    batches = [
        {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.asarray(7)},
        {"a": np.zeros((0, 3), np.float32), "n": np.asarray(2**40)},
    ]
    for number, values in enumerate(batches):
        frontier.add(values, number, 5)
    for _ in range(2):
        found = list(frontier)
        assert [(batch.samples, batch.size) for batch in found] == [(0, 5), (1, 5)]
        for batch, values in zip(found, batches, strict=True):
            assert batch.arrays.keys() == values.keys()
            for name, array in values.items():
                assert batch.arrays[name].dtype == array.dtype
                np.testing.assert_array_equal(batch.arrays[name], array)
    frontier.close()
    assert list(tmp_path.iterdir()) == []
