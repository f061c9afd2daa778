from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.causes.given_text import numbers
from bninspect.errors import UsageError


@pytest.mark.parametrize(
    ("text", "half"),
    [
        ("0.543057", 5e-7),
        ("-0.077417567", 5e-10),
        ("0.3333333333333333", 5e-17),
        ("1.2345e-7", 5e-12),
        ("12345", 0.0),  # float32 holds it
        ("16777217", 0.5),  # and not this
        ("100.0", 0.0),
        ("0.337", 0.0),
        ("0.3371", 5e-5),
        ("0.0625", 0.0),
        ("1e-3", 0.0),
        ("0", 0.0),
    ],
)
def test_what_was_chosen_is_exact_and_what_was_copied_is_known_to_half_a_digit(text: str, half: float) -> None:
    assert numbers(text).half_digits.tolist() == pytest.approx([half])


def test_an_output_is_never_chosen_and_keeps_its_digits() -> None:
    y = numbers("0.5 0.30664642276945747", chosen=False, single=False)
    assert y.values.tolist() == [0.5, 0.30664642276945747]
    assert y.half_digits.tolist() == pytest.approx([0.05, 5e-18])


def test_parameters_are_rounded_to_float32() -> None:
    assert numbers("1.0055743").values[0] == np.float32(1.0055743)


def test_lists_are_separated_by_commas_or_blanks() -> None:
    assert numbers("[1, 2.5,-3e2\n4]").values.tolist() == [1, 2.5, -300, 4]


@pytest.mark.parametrize(
    "text", ["", " , ", "abc", "1,x", "nan", "inf", "1e39", "1e999999999", "1_\x1b[2J", "1" * 5000 + "."]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        numbers(text)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_a_float32_that_was_printed_is_read_back_exactly(value: float) -> None:
    assert numbers(str(np.float32(value))).values[0] == value
