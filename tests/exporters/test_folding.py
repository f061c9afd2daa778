"""Folding against exact arithmetic, and what has no fold."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UsageError
from bninspect.exporters import EXPORTERS
from bninspect.exporters.entries import fold, rounded
from bninspect.records import BatchNorm, Checkpoint, Statistics

if TYPE_CHECKING:
    from bninspect.records import Array

PRECISION = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149), "float64": (53, -1074)}
"""Significant bits, and exponent of the smallest subnormal."""


def _spacing(value: Fraction, dtype: str) -> Fraction:
    """Distance of neighbouring numbers of `dtype` at `value`."""
    digits, least = PRECISION[dtype]
    exponent = least
    while value and abs(value) >= Fraction(2) ** (exponent + digits):
        exponent += 1
    return Fraction(2) ** exponent


def _value(number: float, dtype: str) -> Array:
    """One number as an array of `dtype`; bfloat16 is cut, not rounded: any of its values will do."""
    if dtype != "bfloat16":
        return np.array([number], dtype=dtype)
    return (np.array([number], dtype=np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("dtype", sorted(PRECISION))
@given(
    gamma=st.floats(-8, 8),
    beta=st.floats(-100, 100),
    mean=st.floats(-1000, 1000),
    variance=st.floats(0, 1000),
    epsilon=st.floats(1e-12, 0.1),
)
def test_folded_values_are_exact_ones_rounded_once(
    dtype: str, gamma: float, beta: float, mean: float, variance: float, epsilon: float
) -> None:
    arrays = [_value(number, dtype) for number in (gamma, beta, mean, variance)]
    layer = BatchNorm("bn", arrays[0], arrays[1], arrays[2], arrays[3], epsilon, dtype=dtype)
    with localcontext(prec=80):
        g, b, m, v = (Decimal(float(array[0])) for array in arrays)
        scale = g / (v + Decimal(epsilon)).sqrt()
        exact = {"scale": scale, "shift": b - m * scale}
        size = {"scale": abs(scale), "shift": abs(b) + abs(m * scale)}
        assume(max(abs(value) for value in exact.values()) < 60000)
    folded, stored = fold(layer)
    assert stored == dtype
    for name, array in folded.items():
        assert array.dtype == ("float32" if dtype == "bfloat16" else dtype)
        error = abs(Fraction(float(array[0])) - Fraction(exact[name]))
        # Half a unit in the last place, and for the arithmetic before a few of float64's, and its underflow.
        before = Fraction(size[name]) * 4 / 2**53 + (abs(Fraction(m)) + 1) / 2**1074
        assert error <= _spacing(Fraction(exact[name]), dtype) / 2 + before


@given(number=st.floats(-1e38, 1e38) | st.floats(-1e-35, 1e-35))
@example(1.00390625)  # a tie, to even below
@example(1.01171875)  # a tie, to even above
@example(1.00390625 + 2**-40)  # float32 would round it to the tie and then the wrong way
@example(2.0**-134)  # half of the smallest
@example(3 * 2.0**-134)
@example(-0.0)
def test_bfloat16_is_rounded_once(number: float) -> None:
    found = rounded(np.array([number, -number]), "bfloat16")
    assert found.dtype == np.float32
    assert not (found.view(np.uint32) & 0xFFFF).any()
    assert found[0] == -found[1]
    result, exact = Fraction(float(found[0])), Fraction(number)
    spacing = _spacing(exact, "bfloat16")
    assert abs(result - exact) <= spacing / 2
    if abs(result - exact) == spacing / 2:
        assert (result / spacing) % 2 == 0
    assert np.signbit(found[0]) == np.signbit(number)


def test_bfloat16_beyond_its_largest_number_is_infinite() -> None:
    largest = float(np.array(0x7F7F0000, dtype=np.uint32).view(np.float32))
    np.testing.assert_array_equal(
        rounded(np.array([largest, 3.4e38, np.nan, -np.inf]), "bfloat16"), [largest, np.inf, np.nan, -np.inf]
    )


def _layer(**changes: Any) -> BatchNorm:
    gamma, beta, mean, variance = np.array([[3, 1], [1, 0], [5, -1], [3, 15]], dtype=np.float32)
    layer = BatchNorm("bn", gamma, beta, mean, variance, epsilon=1.0, momentum=0.5, axis=(-1,))
    return replace(layer, **changes)


SCALE, SHIFT = [1.5, 0.25], [-6.5, 0.25]  # 3 / sqrt(3 + 1), 1 / sqrt(15 + 1); 1 - 5 * 1.5, 0 + 1 * 0.25


FOLDING = [exporter for exporter in EXPORTERS if exporter.name not in {"torch", "torch-npz", "onnx"}]
"""Formats that have a scale and a shift."""


def test_every_format_holds_scale_and_shift() -> None:
    data = {
        exporter.name: exporter.encode(Checkpoint("m.h5", "keras-h5", "", (_layer(),)), folded=True)
        for exporter in FOLDING
    }
    with np.load(io.BytesIO(data["npz"])) as arrays:
        assert set(arrays) == {"__bninspect__", "bn/scale", "bn/shift", "bn/axis"}
        np.testing.assert_array_equal(arrays["bn/scale"], np.array(SCALE, dtype=np.float32), strict=True)
        np.testing.assert_array_equal(arrays["bn/shift"], np.array(SHIFT, dtype=np.float32), strict=True)
        described = json.loads(str(arrays["__bninspect__"]))
    document = json.loads(data["json"])
    assert document["layers"][0]["parameters"] == {"scale": SCALE, "shift": SHIFT}
    for text in (described, document):
        assert text["folded"] is True
        assert text["formula"] == "scale * x + shift"
        assert text["layers"][0]["epsilon"] == 1.0
    rows = list(csv.DictReader(io.StringIO(data["csv"].decode())))
    assert [(row["channel"], float(row["scale"]), float(row["shift"])) for row in rows] == [
        ("0", 1.5, -6.5),
        ("1", 0.25, 0.25),
    ]
    assert "gamma" not in rows[0]
    tensors = dict(safetensors.deserialize(data["safetensors"]))  # type: ignore[no-untyped-call]
    assert np.frombuffer(tensors["bn/scale"]["data"], "<f4").tolist() == SCALE


def test_absent_gamma_and_beta_are_one_and_zero() -> None:
    folded, _ = fold(_layer(gamma=None, beta=None, scale=False, center=False))
    np.testing.assert_array_equal(folded["scale"], [0.5, 0.25])
    np.testing.assert_array_equal(folded["shift"], [-2.5, 0.25])


def test_what_a_converter_folded_is_folded_already() -> None:
    there = {"moving_mean": None, "moving_variance": None, "epsilon": None, "statistics": Statistics.FOLDED}
    folded, _ = fold(_layer(**there))
    np.testing.assert_array_equal(folded["scale"], [3, 1])
    np.testing.assert_array_equal(folded["shift"], [1, 0])
    for exporter in FOLDING:
        assert exporter.encode(Checkpoint("m.tflite", "tflite", "", (_layer(**there),)), folded=True)


def test_shape_of_several_axes_stays() -> None:
    arrays = {
        name: getattr(_layer(), name).reshape(1, 2, 1, 1)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    folded, _ = fold(_layer(**arrays, axis=(1, 3)))
    assert folded["scale"].shape == folded["shift"].shape == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("bfloat16+float16", "float32"),
        ("float16+float32", "float32"),
        ("float32+float64", "float64"),
        ("int32", "float64"),
    ],
)
def test_type_of_the_fold(dtype: str, expected: str) -> None:
    folded, found = fold(_layer(dtype=dtype))
    assert found == expected
    assert folded["scale"].dtype == ("float32" if expected == "bfloat16" else expected)


def test_epsilon_is_the_one_of_the_file_and_not_float32s() -> None:
    zero, one = np.zeros(1), np.ones(1)
    folded, _ = fold(
        _layer(gamma=one, beta=zero, moving_mean=zero, moving_variance=zero, epsilon=0.01, dtype="float64")
    )
    assert folded["scale"][0] == 10.0  # with float32(0.01) it would be 10.000000112


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"epsilon": None}, UsageError, "epsilon"),
        ({"undecided": np.ones(2), "gamma": None}, UsageError, "gamma or beta"),
        ({"statistics": Statistics.BATCH}, UsageError, "batch"),
        ({"statistics": Statistics.SAMPLE}, UsageError, "sample"),
        ({"moving_mean": None}, DamagedFile, "moving_mean"),
        ({"moving_variance": np.ones(3)}, DamagedFile, "shape"),
        ({"moving_variance": np.array([1, -2])}, BninspectError, "scale would be nan at channel 1"),
        ({"moving_variance": np.array([-1, 1])}, BninspectError, "scale would be inf at channel 0"),
        ({"gamma": np.array([1, np.inf])}, BninspectError, "scale would be inf at channel 1"),
        ({"beta": np.array([np.nan, 0])}, BninspectError, "shift would be nan at channel 0"),
        (
            {"beta": np.array([0, 0x7F800001], dtype=np.uint32).view(np.float32)},
            BninspectError,
            "shift would be nan at channel 1",
        ),
        (
            {"beta": np.array([0, 70000]), "dtype": "float16"},
            BninspectError,
            "70000.2 at channel 1, too large for float16",
        ),
        ({"beta": np.array([0, 1e39]), "dtype": "bfloat16"}, BninspectError, "too large for bfloat16"),
    ],
)
def test_what_cannot_be_folded(changes: dict[str, Any], error: type[BninspectError], words: str) -> None:
    for exporter in FOLDING:
        with pytest.raises(error, match=words) as caught:
            exporter.encode(Checkpoint("m.h5", "keras-h5", "", (_layer(**changes),)), folded=True)
        assert type(caught.value) is error
        if "epsilon" in changes:
            assert "--epsilon" in caught.value.hint
