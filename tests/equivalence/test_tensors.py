"""Tensors of two files in one order of axes: where the channels are both files say, nothing is guessed from numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.equivalence import tensors
from bninspect.records.graph import Network, Node, Quantisation

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (2, 4, 3), (1, 4, 5, 3), (2, 3, 4, 5, 6), (1, 1, 1, 3), (1, 3, 3, 3)])
def test_channels_at_either_end(shape: tuple[int, ...]) -> None:
    source = GENERATOR.normal(size=shape)
    for axis in (-1, 1):
        found = tensors.arranged(np.moveaxis(source, -1, axis), axis, source.shape, -1)
        assert found is not None
        np.testing.assert_array_equal(found, source)


def test_two_other_axes_in_each_others_place_are_not_put_right() -> None:
    """Height and width of a square map: the numbers would tell, and the export returns another layout all the same."""
    source = GENERATOR.normal(size=(1, 4, 4, 3))
    found = tensors.arranged(source.transpose(0, 2, 1, 3), -1, source.shape, -1)
    assert found is not None
    assert not np.array_equal(found, source)
    assert tensors.arranged(GENERATOR.normal(size=(1, 5, 4, 3)), -1, (1, 4, 5, 3), -1) is None


def test_axes_of_length_one_and_samples_in_one_axis() -> None:
    source = GENERATOR.normal(size=(2, 7, 3))
    for other in (source.reshape(2, 1, 7, 3), source.reshape(14, 3)):
        found = tensors.arranged(other, -1, source.shape, -1)
        assert found is not None
        np.testing.assert_array_equal(found, source)
    assert tensors.arranged(source.reshape(6, 7), -1, source.shape, -1) is None


def test_integers_stand_for_numbers() -> None:
    stored = np.array([[-128, 0], [3, 127]], np.int8)
    whole = Quantisation(np.array([0.5], np.float32), np.array([-2]), "int8")
    np.testing.assert_array_equal(tensors.real(stored, whole), [[-63.0, 1.0], [2.5, 64.5]])
    assert [end.tolist() for end in tensors.reach(whole)] == [[-63.0], [64.5]]
    each = Quantisation(np.array([0.5, 2.0], np.float32), np.array([0, 1]), "int8", 1)
    np.testing.assert_array_equal(tensors.real(stored, each), [[-64.0, -2.0], [1.5, 252.0]])


def test_floats_on_steps_end_where_their_channel_does() -> None:
    steps = Quantisation(np.array([0.5, 2.0]), np.array([2.0, 0.0]), "float32", 1, levels=5)
    assert [end.tolist() for end in tensors.reach(steps)] == [[-1.0, 0.0], [1.0, 8.0]]
    values = np.array([[-9.0, -9.0], [9.0, 9.0]])
    np.testing.assert_array_equal(tensors.cut_off(values, steps, 1), [[-1.0, 0.0], [1.0, 8.0]])
    np.testing.assert_array_equal(tensors.cut_off(values.T, steps, 0), [[-1.0, 1.0], [0.0, 8.0]])


def test_the_ends_of_a_type_are_where_numbers_are_cut_off() -> None:
    each = Quantisation(np.array([0.5, 2.0], np.float32), np.array([0, 0]), "int8", 1)
    below, above = tensors.at_ends(np.array([[-64.0, 254.0], [63.5, -256.0], [63.0, 0.0]]), each)
    np.testing.assert_array_equal(below, [[True, False], [False, True], [False, False]])
    np.testing.assert_array_equal(above, [[False, True], [True, False], [False, False]])


def test_halves_on_steps_are_what_they_were_before_they_were_rounded() -> None:
    """128 steps down and 127 up; the ends of the range in float16 have its zero 0.016 of a step from a whole one."""
    low, high = np.float64(np.float16(-2.58)), np.float64(np.float16(2.56))
    step = (high - low) / 255
    grid = Quantisation(np.array([step]), np.array([-low / step]), "float32", levels=256)
    network = Network((), (), (Node("turn", "transpose", ("x",), ("y",)),), {"x": grid})
    exact = np.arange(256) * step + low
    found, moved = tensors.on_steps(exact.astype(np.float16), "y", network)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)
    assert moved == pytest.approx(0.0155776 * step, rel=1e-4)
    assert tensors.on_steps(exact, "y", network)[0] is exact
    assert tensors.on_steps(exact.astype(np.float16), "z", network)[1] == 0


@pytest.mark.parametrize(("zero", "steps"), [(128.0, 2 * 256 * 2.0**-24), (128.000002, 2e-6), (127.4, 0.0)])
def test_a_runtime_that_multiplies_integers_takes_the_zero_off_in_float32(zero: float, steps: float) -> None:
    """Two roundings of the whole range, and what the zero is moved where the ends were rounded; nothing of others."""
    levels = Quantisation(np.array([0.25, 0.5]), np.array([zero, zero]), "float32", 1, 256)
    _, moved = tensors.on_steps(np.ones((1, 2), np.float32), "y", Network((), (), (), {"y": levels}))
    assert moved == pytest.approx(0.5 * (steps + (2 * 256 * 2.0**-24 if steps == 2e-6 else 0)), rel=0.01)
