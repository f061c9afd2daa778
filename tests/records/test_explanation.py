"""What explains a difference, in one line."""

from __future__ import annotations

import pytest

from bninspect.records import Cause, Explanation


def _sentence(*causes: Cause) -> str:
    return Explanation(matches=False, causes=causes, tried=9, elements=60).sentence


def _epsilon(value: float, sentence: str = "") -> Cause:
    return Cause(f"epsilon={value:g}", sentence or f"epsilon {value:g}", 0.5, details={"epsilon": value})


@pytest.mark.parametrize(
    ("causes", "sentence"),
    [
        ((), "none of 9 hypotheses fits"),
        ((_epsilon(1e-5, "epsilon 1e-05 instead of 0.001"),), "epsilon 1e-05 instead of 0.001"),
        (
            (_epsilon(1e-5, "epsilon 1e-05 instead of 0.001"), _epsilon(1.001e-5)),
            "epsilon 1e-05 (or 1.001e-05) instead of 0.001",
        ),
        ((_epsilon(0.0, "no epsilon"), _epsilon(1e-12), _epsilon(1e-8)), "no epsilon (or 1e-12, 1e-08)"),
        (
            (_epsilon(1e-5), Cause("beta-ignored", "beta was ignored", 0.5)),
            "epsilon 1e-05, or 1 other that cannot be told apart here",
        ),
    ],
)
def test_epsilons_that_cannot_be_told_apart_are_in_one_line(causes: tuple[Cause, ...], sentence: str) -> None:
    assert _sentence(*causes) == sentence
