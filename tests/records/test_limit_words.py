"""Errors in words: a number never rounds to the other side of its limit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.records.limit_words import of_limit, of_limits


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (0.0, "0 % of the limit"),
        (3.3e-7, "under 0.1 % of the limit"),
        (0.0088, "0.9 % of the limit"),
        (0.72, "72 % of the limit"),
        (0.99999, "99.9 % of the limit"),
        (1.0, "100 % of the limit"),
        (1.00000012, "1.00000012 times the limit"),
        (1.03125, "1.031 times the limit"),
        (2.31, "2.3 times the limit"),
        (14_321.0, "14,000 times the limit"),
        (1_200_000.0, "1,200,000 times the limit"),
        (1.2e9, "over 1,000,000,000 times the limit"),
        (None, "not finite"),
        (float("nan"), "not finite"),
    ],
)
def test_an_error_has_its_limit(ratio: float | None, said: str) -> None:
    assert of_limit(ratio) == said


@given(st.floats(0, 1e300))
def test_the_unit_says_on_which_side_it_is(ratio: float) -> None:
    said = of_limit(ratio)
    assert said.endswith("% of the limit") is (ratio <= 1.0)
    number = re.search(r"\d[\d.e+,]*", said)
    assert number
    share = float(number[0].replace(",", "")) / (100 if "%" in said else 1)
    assert (share <= 1.0) is (ratio <= 1.0)


def test_several_errors_share_their_unit() -> None:
    assert of_limits({"weights": 0.24, "bias": 0.15}) == "weights 24 %, bias 15 % of the limit"
    assert of_limits({"weights": 2200.0, "bias": 12.0}) == "weights 2,200, bias 12 times the limit"
    assert of_limits({"weights": 0.24, "bias": 12.0}) == "weights 24 % of the limit, bias 12 times the limit"
