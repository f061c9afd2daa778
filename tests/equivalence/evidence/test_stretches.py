"""What lies between is compared with the model, never with the export itself, or is said not to have been compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from bninspect.equivalence import folding
from bninspect.equivalence.evidence import stretches, wires
from bninspect.equivalence.evidence.local import Proof
from bninspect.equivalence.evidence.replay import Comparing, Stretch
from bninspect.equivalence.evidence.stretches import compare
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array
from bninspect.records.graph import DENSE, Geometry, Kernel, Network, Node, Quantisation

KERNEL = Kernel(np.full((1, 1, 1), 2.0))
DOUBLING = Node("double", DENSE, ("x",), ("y",), KERNEL, geometry=Geometry())
PLACE = Place(DOUBLING, folding.plain(KERNEL), DOUBLING)
X, Y = np.array([[1.0], [2.0]], np.float32), np.array([[2.0], [4.0]], np.float32)


@dataclass
class Doubling:
    """A model that computes y = 2x and z = y + 1, values that are given taken instead of its own."""

    data: Array = field(default_factory=lambda: X)

    def __call__(
        self, data: Sequence[Array] | None, given: Mapping[str, Array], wanted: Iterable[str]
    ) -> Mapping[str, Array]:
        x = self.data if data is None else data[0]
        y = given.get("x", x) * np.float32(2)
        z = given.get("y", y) + np.float32(1)
        return {name: value for name, value in {"x": x, "y": y, "z": z}.items() if name in set(wanted)}


def _compared(
    values: Mapping[str, Array], proof: Proof, network: Network | None = None, places: tuple[Place, ...] = (PLACE,)
) -> dict[str, Stretch]:
    network = network or Network((), (), (DOUBLING, Node("end", "add", ("y",), ("z",))))
    how = Comparing(network, values, values, {id(DOUBLING): proof}, Doubling(), [X])
    found = [*wires.wires(places, network), wires.Wire("z", "z", "output")]
    free = Doubling()(None, {}, ("x", "y", "z"))
    return {one.wire.end: one for one in compare(found, free, how)[0]}


def test_right_values_agree_and_depend_on_what_goes_in() -> None:
    ends = _compared({"x": X, "y": Y, "z": Y + 1}, Proof(None, value=Y.astype(np.float64)))
    assert set(ends) == {"x", "y", "output"}
    assert all(one.compared is not None and one.compared.agrees and one.moves for one in ends.values())


def test_what_was_not_recomputed_is_held_against_the_model_and_not_against_itself() -> None:
    """The model is given what came out of a kernel: that only says something if it was proved."""
    off = Y * np.float32(1.01)
    ends = _compared({"x": X, "y": off, "z": off + 1}, Proof(None, why="nobody can recompute it"))
    assert ends["y"].wrong
    assert not ends["output"].wrong


def test_a_part_that_was_recomputed_is_compared_where_it_was() -> None:
    part = np.array([[2.0], [np.nan]])
    assert not _compared({"x": X, "y": Y, "z": Y + 1}, Proof(None, value=part, share=0.5))["y"].wrong
    wrong = np.array([[2.1], [np.nan]])
    assert _compared({"x": X, "y": Y, "z": Y + 1}, Proof(None, value=wrong, share=0.5))["y"].wrong


def test_an_operation_of_which_no_bound_is_known_leaves_it_open() -> None:
    """Of whole numbers, behind an operation that nobody knows: the output is not compared, and is not wrong."""
    whole = Quantisation(np.array([0.5], np.float32), np.array([0]), "int8")
    strange = Node("s", "lgamma", ("q",), ("z",))
    network = Network((), (), (DOUBLING, Node("q", "identity", ("y",), ("q",)), strange), {"q": whole})
    values: dict[str, Array] = {"x": X, "y": Y, "z": Y * 7, "q": np.array([[4], [8]], np.int8)}
    end = _compared(values, Proof(None, value=Y.astype(np.float64)), network)["output"]
    assert end.compared is None
    assert "lgamma" in end.why


def test_a_dead_value_says_nothing() -> None:
    class Dead(Doubling):
        def __call__(
            self, data: Sequence[Array] | None, given: Mapping[str, Array], wanted: Iterable[str]
        ) -> Mapping[str, Array]:
            found = super().__call__(data, given, wanted)
            return {name: np.zeros_like(value) if name == "z" else value for name, value in found.items()}

    network = Network((), (), (DOUBLING, Node("end", "relu", ("y",), ("z",))))
    values = {"x": X, "y": Y, "z": np.zeros_like(Y)}
    how = Comparing(network, values, values, {id(DOUBLING): Proof(None, value=Y.astype(np.float64))}, Dead(), [X])
    found = [*wires.wires((PLACE,), network), wires.Wire("z", "z", "output")]
    ends = {one.wire.end: one for one in compare(found, {"x": X, "y": Y, "z": Y}, how)[0]}
    assert ends["output"].compared is not None
    assert ends["output"].compared.agrees
    assert not ends["output"].moves


def test_what_enters_the_next_kernel_is_what_the_export_had_there() -> None:
    """Between y and the x of the next an export may round: the model goes on from the rounded one."""
    other = Node("next", DENSE, ("x2",), ("y2",), KERNEL, geometry=Geometry())
    own = Node("own", DENSE, ("y",), ("z",), KERNEL, geometry=Geometry())
    places = (PLACE, Place(other, folding.plain(KERNEL), own))
    found = list(wires.wires(places, Network((), (), (DOUBLING, own))))
    arranged = {id(one): {"x": X, "y": Y, "x2": Y + 1, "y2": Y}[one.value] for one in found}
    given = stretches._forced(found, arranged, {"x": X, "y": Y, "z": Y})
    np.testing.assert_array_equal(given.arrays["y"], Y + 1)
    np.testing.assert_array_equal(given.made["y"], Y)
    assert given.enters(places[1])


def test_a_result_of_another_size_is_wrong_unless_a_part_of_it_is_taken() -> None:
    """Converters write a transposed convolution without its padding, and cut that off behind it."""
    longer = np.concatenate([Y, Y])
    values = {"x": X, "y": longer, "z": Y + 1}
    for operation, wrong in (("strided slice", False), ("add", True)):
        network = Network((), (), (DOUBLING, Node("end", operation, ("y",), ("z",))))
        assert _compared(values, Proof(None, why="not asked"), network)["y"].wrong is wrong


@pytest.mark.parametrize(("operation", "kept"), [("mean", False), ("globalaveragepool", True), ("reducesum", False)])
def test_a_mean_of_numbers_that_cancel_is_right_to_the_size_of_what_it_adds_up(operation: str, kept: bool) -> None:
    """A kernel that adds in an order of its own leaves roundings of what goes in, not of the little that is left."""
    half = np.random.default_rng(0).standard_normal((1, 12, 24, 4)).astype(np.float32)
    x = np.concatenate([half, -half[:, ::-1]], axis=1)
    own = x.mean((1, 2), dtype=np.float64, keepdims=kept) * (576 if operation == "reducesum" else 1)
    sizes = np.abs(x.astype(np.float64)).mean((1, 2)).max() * (576 if operation == "reducesum" else 1)

    class Mean(Doubling):
        def __call__(
            self, data: Sequence[Array] | None, given: Mapping[str, Array], wanted: Iterable[str]
        ) -> Mapping[str, Array]:
            return {"z": own.astype(np.float32)}

    network = Network((), (), (Node("end", operation, ("x",), ("z",)),))
    for off, wrong in ((100, False), (2 * 578 + 100, True)):
        values = {"x": x, "z": (own + off * folding.U * sizes).astype(np.float32)}
        how = Comparing(network, values, values, {}, Mean(), [x])
        (end,), _ = compare([wires.Wire("z", "z", "output")], {"z": own.astype(np.float32)}, how)
        assert end.wrong is wrong
