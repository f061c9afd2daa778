"""Which layers are looked at, and that an epsilon of the file is never replaced."""

from __future__ import annotations

import pytest
from layers import layer

from bninspect import errors
from bninspect.records import Checkpoint
from bninspect.selection import select
from bninspect.settings import EpsilonRule, Settings

MODEL = Checkpoint("m", "f", "", (layer("stem/bn"), layer("head/bn", epsilon=None, epsilon_source=None), layer("last")))


def chosen(**settings: object) -> list[str]:
    return [one.name for one in select(MODEL, Settings(**settings)).layers]  # type: ignore[arg-type]


def test_patterns_choose_and_exclude() -> None:
    assert chosen() == ["stem/bn", "head/bn", "last"]
    assert chosen(layers=("*/bn",)) == ["stem/bn", "head/bn"]
    assert chosen(layers=("*/bn", "last"), exclude_layers=("stem*",)) == ["head/bn", "last"]
    assert chosen(layers=("nothing",)) == []


def test_the_first_rule_that_fits_supplies_epsilon_where_the_file_has_none() -> None:
    rules = (EpsilonRule("head*", 1e-5), EpsilonRule("*", 0.5))
    got = {one.name: (one.epsilon, one.epsilon_source) for one in select(MODEL, Settings(epsilon=rules)).layers}
    assert got == {"stem/bn": (1e-3, "file"), "head/bn": (1e-5, "--epsilon"), "last": (1e-3, "file")}


def test_epsilon_stays_unknown_without_a_rule_that_fits() -> None:
    rules = (EpsilonRule("stem*", 1e-5),)
    assert select(MODEL, Settings(epsilon=rules)).layers[1].epsilon is None


def test_a_model_without_batch_norm_is_nothing_to_check() -> None:
    with pytest.raises(errors.NothingToCheck):
        select(Checkpoint("m", "keras-h5", "", ()), Settings())
