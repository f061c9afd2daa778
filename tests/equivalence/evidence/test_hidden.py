"""What the numbers of a channel are only shows where the channel does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest

from bninspect.equivalence import measuring
from bninspect.equivalence.evidence.hidden import Hidden, Lost, hidden
from bninspect.equivalence.evidence.replay import Comparing, Given, Stretch
from bninspect.equivalence.evidence.wires import Wire
from bninspect.records import Array
from bninspect.records.graph import DENSE, Geometry, Kernel, Network, Node

WEIGHTS = np.array([[1.0, -2.0, 0.5, 1.5, 1.0], [0.5, 1.0, -1.0, 1.0, -1.0], [1.0, 1.0, 1.0, -1.0, 0.5]], np.float32)
X = np.array([[0.5, -1.0, 1.5], [1.0, 2.0, 0.3], [-1.0, 0.7, 0.2], [0.1, -0.4, 1.0]], np.float32)
KERNEL = Node("k", DENSE, ("x",), ("y",), Kernel(WEIGHTS[np.newaxis]), geometry=Geometry())
NETWORK = Network((), (), (KERNEL, Node("tail", "anything", ("y",), ("z",))))
Tail = Callable[[Array], Array]


def _softmax(y: Array) -> Array:
    powers = np.exp(y - y.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _of(
    tail: Tail,
    bias: Sequence[float],
    x: Array = X,
    *,
    forces: bool = True,
    off: float = 0.0,
    weights: Array = WEIGHTS,
    alike: bool = False,
    known: Hidden | None = None,
) -> Mapping[Node, Hidden]:
    def replay(data: Sequence[Array] | None, given: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        y = given.get("y", x @ weights + np.asarray(bias, np.float32))
        every = {"x": x, "y": y, "z": np.asarray(tail(y), np.float32)}
        return {name: every[name] for name in wanted}

    z = replay(None, {}, ["z"])["z"].astype(np.float64)
    compared = measuring.measured(z + off, z, np.full((1, 1), 1e-6), observed="output", reference="source")
    how = Comparing(NETWORK, {}, {}, {}, replay, [x], forces, source=NETWORK)
    ends = [Stretch(Wire("z", "z", "output"), compared, exact=True)]
    return hidden([Lost(KERNEL, alike)], ends, Given(), how, {} if known is None else {KERNEL: known})


@pytest.mark.parametrize(
    ("tail", "bias", "outputs"),
    [
        pytest.param(lambda y: y, (0, 0, 0, 0, 0), set(), id="every channel shows"),
        pytest.param(lambda y: np.maximum(y, 0), (0, 0, -100, 0, 0), {2}, id="a relu that never fires"),
        pytest.param(lambda y: np.clip(y, -2, 2), (0, 100, 0, 0, -100), {1, 4}, id="limits that are always met"),
        pytest.param(_softmax, (0, 0.3, 0, 0, 0), set(), id="a softmax mixes and shows all"),
        pytest.param(_softmax, (0, 0, 0, -60, 0), {3}, id="a logit that is far below"),
        pytest.param(lambda y: np.maximum(y, 50), (0, 0, 0, 60, 0), {0, 1, 2, 4}, id="the other branch is larger"),
        pytest.param(np.sign, (0, 0, 0, 0, 0), {0, 1, 2, 3, 4}, id="only the sign is looked at"),
        pytest.param(
            lambda y: np.maximum(y * np.array([0, 1, 1, 1, 1]), 0), (0, 0, 0, 0, 0), {0}, id="a factor of zero"
        ),
        pytest.param(lambda y: y @ np.eye(5, 4), (0, 0, 0, 0, 0), {4}, id="a channel that nobody reads"),
    ],
)
def test_channels_that_show_nowhere_behind(tail: Tail, bias: Sequence[float], outputs: set[int]) -> None:
    assert _of(tail, bias)[KERNEL].outputs == outputs


def test_a_channel_of_zeros_shows_where_another_number_would() -> None:
    weights = WEIGHTS * np.array([1, 0, 1, 1, 1], np.float32)
    assert _of(lambda y: np.maximum(y, 0), (0, 0, 0, 0, 0), weights=weights)[KERNEL] == Hidden()


def test_channels_that_nothing_goes_into() -> None:
    silent = X * np.array([1, 0, 1], np.float32)
    found = _of(lambda y: y, (0, 0, 0, 0, 0), silent)[KERNEL]
    assert found == Hidden(inputs=frozenset({1}))
    assert found.sentence == "channel 1 of what goes into it is zero on every input"
    assert (found & Hidden()).sentence == ""
    assert found & Hidden(unseen=True) == Hidden(unseen=True) & found == found


def test_other_input_leaves_less_to_look_for() -> None:
    bias, known = (0, -100, -100, 0, 0), Hidden(frozenset({0, 2}))
    assert _of(lambda y: np.maximum(y, 0), bias, known=known)[KERNEL].outputs == {2}
    assert not _of(lambda y: y, bias, known=Hidden())


def test_one_channel_shows_what_all_have_in_common() -> None:
    assert not _of(lambda y: np.maximum(y, 0), (-100, -100, 0, -100, -100), alike=True)[KERNEL].sentence
    assert len(_of(lambda y: np.maximum(y, 0), (-100,) * 5, alike=True)[KERNEL].outputs) == WEIGHTS.shape[1]


def test_nothing_shows_in_a_model_that_cannot_be_given_values() -> None:
    assert _of(lambda y: y, (0, 0, 0, 0, 0), forces=False)[KERNEL].unseen


def test_what_disagrees_is_not_asked() -> None:
    assert not _of(lambda y: y, (0, 0, 0, 0, 0), off=0.1)
