"""A hint says the act: every cause that can be named has one, or is of a kind for which none is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bninspect.causes import remedies
from bninspect.records import Cause, Explanation

PAGE = Path(__file__).parents[2] / "docs" / "causes.md"
WITHOUT = re.compile(
    r"(relu|relu6|sigmoid|tanh|silu|hard-swish|elu|leaky-relu=.*)-?(after|before)?|(output|input)-factor=.*"
)
"""An activation beside the batch norm, or a common factor, is nobody's setting."""


def explained(*names: str) -> Explanation:
    causes = tuple(Cause(name, name, 0.5) for name in names)
    return Explanation(matches=False, causes=causes, tried=9, elements=9)


def test_another_epsilon_is_set_to_the_right_one() -> None:
    found = remedies.remedy(explained("epsilon=1e-05", "epsilon=1.001e-05"), 0.001, remedies.EXPORT)
    assert found == "set epsilon=0.001 in the code that exports, then export again"


def test_causes_that_need_other_acts_are_not_taken_for_one() -> None:
    found = remedies.remedy(explained("bias-dropped", "beta-ignored"), 0.001, remedies.EXPORT)
    assert found.startswith("if it is the first of these causes, ")


def test_each_part_of_a_cause_has_its_act() -> None:
    found = remedies.remedy(explained("gamma-ignored + epsilon=1e-05"), 0.001, remedies.OWN_RUNTIME)
    assert "gamma" in found
    assert "set epsilon=0.001" in found
    assert found.endswith("in your runtime, then run the vectors again")


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert remedies.remedy(None, 0.001, remedies.EXPORT) == ""
    assert remedies.remedy(explained(), 0.001, remedies.EXPORT) == ""
    assert remedies.remedy(explained("output-factor=3"), 0.001, remedies.EXPORT) == ""
    assert remedies.remedy(explained("epsilon=1e-05"), None, remedies.EXPORT) == ""


@pytest.mark.parametrize("name", re.findall(r"^- `([^`]+)`:", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
def test_every_cause_of_the_manual_has_an_act(name: str) -> None:
    assert bool(remedies.remedy(explained(name), 0.001, remedies.RUNTIME)) != bool(WITHOUT.fullmatch(name))
