"""Tensors of two runtimes: brought into one order by their numbers, never by a guess."""

from __future__ import annotations

import numpy as np
import pytest

from bninspect.arithmetic.layout import aligned
from bninspect.conversion import outputs

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (2, 4, 3), (1, 4, 5, 3), (2, 3), (2, 3, 4, 5, 6), (1, 1, 1, 3)])
def test_channels_at_either_end(shape: tuple[int, ...]) -> None:
    source = GENERATOR.normal(size=shape)
    for moved in (source, np.moveaxis(source, -1, 1), np.moveaxis(source, 1, -1)):
        found = aligned(moved, source.shape, source)
        assert found is not None
        np.testing.assert_array_equal(found, source)


def test_numbers_decide_where_the_shape_does_not() -> None:
    source = GENERATOR.normal(size=(1, 3, 3, 3))
    for moved in (source, np.moveaxis(source, -1, 1), np.moveaxis(source, 1, -1)):
        found = aligned(moved + 1e-6, source.shape, source)
        assert found is not None
        np.testing.assert_allclose(found, source, atol=1e-5)


def test_axes_of_length_one_come_and_go() -> None:
    """A converter makes a two-dimensional convolution of a one-dimensional one."""
    source = GENERATOR.normal(size=(1, 7, 3))
    found = aligned(source.reshape(1, 1, 7, 3), source.shape, source)
    assert found is not None
    np.testing.assert_array_equal(found, source)


def test_another_shape_is_not_forced() -> None:
    source = GENERATOR.normal(size=(1, 7, 3))
    assert aligned(np.zeros((1, 7, 4)), source.shape, source) is None
    assert aligned(np.zeros((1, 21)), source.shape, source) is None
    assert outputs.compared(source, np.zeros((1, 21)), np.ones(3), 1, axis=2) is None


def test_what_is_allowed_grows_with_size_and_depth() -> None:
    source = np.zeros((1, 5, 2))
    off = source + 100 * 2.0**-24
    small = outputs.compared(source, off, np.array([1.0, 1.0]), 1, axis=2)
    large = outputs.compared(source, off, np.array([1.0, 10.0]), 1, axis=2)
    deep = outputs.compared(source, off, np.array([1.0, 1.0]), 2, axis=2)
    assert small is not None
    assert large is not None
    assert deep is not None
    assert (small.agrees, small.violations, small.channels) == (False, 10, (0, 1))
    assert (large.agrees, large.violations, large.channels) == (False, 5, (0,))
    assert (deep.agrees, deep.ratio) == (True, 100 / 128)


def test_nan_and_dead_channels() -> None:
    source = np.ones((1, 5, 2))
    for wrong in (np.nan, np.inf):
        export = source.copy()
        export[0, 0, 0] = wrong
        found = outputs.compared(source, export, np.ones(2), 1, axis=2)
        assert found is not None
        assert not found.agrees
    dead = outputs.compared(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)), np.zeros(2), 1, axis=2)
    assert dead is not None
    assert dead.agrees
    unknown = outputs.compared(source, source, np.array([np.nan, 1]), 1, axis=2)
    assert unknown is not None
    assert not unknown.agrees


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("", [-2, 0.5, 7]), ("relu", [0, 0.5, 7]), ("relu6", [0, 0.5, 6]), ("relu n1 to 1", [-1, 0.5, 1])],
)
def test_activations(activation: str, expected: list[float]) -> None:
    found = outputs.activated(np.array([-2, 0.5, 7]), activation)
    assert found is not None
    assert found.tolist() == expected
    assert outputs.activated(np.zeros(1), "sign bit") is None


def test_outputs_of_the_models() -> None:
    source = np.array([[1.0, -2.0]])
    same = outputs.ends(source, np.array([[1.0, -2.0]], np.float32), 3, observed="model output")
    assert same is not None
    assert same.agrees
    off = outputs.ends(source, np.array([[1.0, -2.001]], np.float32), 3, observed="model output")
    assert off is not None
    assert not off.agrees


def test_coarser_types_are_allowed_their_own_rounding() -> None:
    source = np.zeros((1, 5, 2))
    off = source + 3 * 2.0**-11
    ones = np.ones(2)
    found = [outputs.compared(source, off, ones, depth, axis=2, dtype="float16") for depth in (1, 2)]
    assert [one is not None and one.ratio for one in found] == [3 / 4, 3 / 8]
    # However deep, and however coarse: what can be seen with the eye is wrong.
    seen = outputs.compared(source, source + 0.07, ones, 10_000, axis=2, dtype="bfloat16")
    assert seen is not None
    assert not seen.agrees


def test_outputs_are_paired_by_their_numbers() -> None:
    one, two, wide = GENERATOR.normal(size=(1, 4)), GENERATOR.normal(size=(1, 4)), GENERATOR.normal(size=(1, 5))
    export = {"b": two, "c": wide, "a": one + 1e-6}
    assert outputs.paired([one, two, wide], export, 1, "float32") == {0: "a", 1: "b", 2: "c"}
    assert outputs.paired([one, two], {"b": two, "c": wide}, 1, "float32") == {1: "b"}
    # Numbers that are not finite are paired with what is left, and fail there.
    assert outputs.paired([one, two], {"x": np.full((1, 4), np.nan), "a": one}, 1, "float32") == {0: "a", 1: "x"}


def test_only_large_differences_of_a_loud_sample_are_errors() -> None:
    source = np.zeros((2, 3, 2))
    off = source + 100 * 2.0**-24
    found = outputs.compared(source, off, np.ones(2), 1, axis=2, loud=True)
    assert found is not None
    assert (found.agrees, found.violations, found.ratio) == (False, 6, 100 / 64)
    found = outputs.compared(
        source, source + np.array([0.0, 0.1]).reshape(2, 1, 1), np.ones(2), 10_000, axis=2, dtype="float16", loud=True
    )
    assert found is not None
    assert (found.agrees, found.violations) == (False, 6)


def test_probabilities_are_right_to_a_rounding_of_one() -> None:
    """ONNX Runtime's sigmoid of -30 is that of -18, 1.5e-8 and not 9e-14."""
    source = np.full((1, 1), 9e-14)
    assert (one := outputs.ends(source, source + 1.5e-8, 1, observed="")) is not None
    assert one.agrees
    assert (one := outputs.ends(source, source + 1e-6, 1, observed="")) is not None
    assert not one.agrees
