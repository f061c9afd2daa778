"""Which layers are looked at, and that an epsilon of the file is never replaced."""

from __future__ import annotations

import pytest
from helpers.layers import layer

from bninspect import errors
from bninspect.records import Checkpoint, Tolerance, Unread
from bninspect.settings import EpsilonRule, IgnoreRule, Settings, ToleranceRule
from bninspect.verdicts.selection import for_model, select, tolerance

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


def test_what_was_not_read_is_something_to_check_and_is_chosen_like_a_layer() -> None:
    unread = (Unread("function f", 2, "why"), Unread("loop/body", 1, "why"))
    model = Checkpoint("m", "onnx", "", (), unread=unread)
    assert select(model, Settings()).unread == unread
    assert select(model, Settings(exclude_layers=("loop*",))).unread == unread[:1]
    assert select(model, Settings(layers=("loop*",))).unread == unread[1:]


def test_a_model_without_batch_norm_is_nothing_to_check() -> None:
    with pytest.raises(errors.NothingToCheck):
        select(Checkpoint("m", "keras-h5", "", ()), Settings())


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("*", True), ("m.h5", True), ("*.h5", True), ("v2/*.h5", True), ("v1/*.h5", False), ("n.h5", False), ("m", False)],
)
def test_rules_of_other_models_and_those_that_are_over_are_left_out(pattern: str, fits: bool) -> None:
    rules = Settings(
        tolerances=(ToleranceRule("*", 1.0, 1.0, models=pattern),),
        ignores=(IgnoreRule("BN1", "r", models=pattern), IgnoreRule("BN2", "r", models=pattern, expired=True)),
    )
    mine = for_model(rules, "models/v2/m.h5")
    assert (len(mine.tolerances), [rule.rule for rule in mine.ignores]) == ((1, ["BN1"]) if fits else (0, []))


def test_the_first_tolerance_that_fits_counts_and_then_that_of_all_layers() -> None:
    rules = (ToleranceRule("head*", 0.1, 0.2, reason="r"), ToleranceRule("*bn", 0.3, 0.4))
    chosen = Settings(tolerances=rules, rtol=0.5, atol=0.6)
    assert tolerance("head/bn", chosen) == Tolerance(0.1, 0.2, "r")
    assert tolerance("stem/bn", chosen) == Tolerance(0.3, 0.4)
    assert tolerance("last", chosen) == Tolerance(0.5, 0.6)
    assert tolerance("last", Settings(tolerances=rules)) is None
