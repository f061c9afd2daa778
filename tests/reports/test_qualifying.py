"""What a verdict rests on besides proof stands beside it, in every format that people read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bninspect.records import LayerReport, LayerStatus, ModelReport, Report, Statistics, Status, Tolerance
from bninspect.records import outcome as summary
from bninspect.reports import REPORTS, Looks

PLAIN = LayerReport("bn", "", 1, -1, 1e-3, "file", 0.9, "float32", True, True, status=LayerStatus.VERIFIED)
TOLERATED = replace(PLAIN, name="head<1>", tolerance=Tolerance(1e-3, 1e-5, "trained in bfloat16"))
KNOWN = replace(PLAIN, name="old", status=LayerStatus.MISMATCH, known="a mismatch in the baseline too")


def report(*layers: LayerReport) -> Report:
    model = ModelReport("m.h5", None, 0, "keras-h5", "", Status.PASS, runtime="keras 3", layers=layers)
    return summary.report("verify", [model], options={}, allow_empty=False, running={})


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_a_tolerance_and_a_known_mismatch_are_said(form: str) -> None:
    said = REPORTS[form](report(PLAIN, TOLERATED, replace(TOLERATED, name="head2"), KNOWN), Looks())
    assert "not by proof" in said
    assert "trained in bfloat16" in said
    assert "a mismatch in the baseline too" in said
    assert "<1>" not in said or form != "html"
    assert "FAIL" not in said


def test_the_verdict_counts_what_it_does_not_rest_on_proof_for() -> None:
    shown = REPORTS["text"](report(PLAIN, TOLERATED, replace(TOLERATED, name="head2"), KNOWN), Looks()).splitlines()
    verdict, whole = shown[-2:]
    assert "; 2 by tolerance, not by proof; 1 no worse than in the baseline; exit 0" in whole
    assert verdict.startswith("PASS  3 of 4 layers")
    assert verdict.endswith(", 2 by tolerance, not by proof, 1 no worse than in the baseline")


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_proof_alone_needs_no_words(form: str) -> None:
    said = REPORTS[form](report(PLAIN), Looks())
    assert "by tolerance" not in said
    assert "in the baseline" not in said


def test_every_layer_shows_known_mismatches_too_and_no_failure() -> None:
    said = REPORTS["text"](report(PLAIN, KNOWN), Looks(verbosity=1)).splitlines()
    assert any(line.startswith("known old ") for line in said)
    assert not any(line.startswith("FAIL") for line in said)


def test_the_worst_share_of_the_bound_is_of_proved_layers_only() -> None:
    said = REPORTS["text"](report(TOLERATED), Looks())
    assert "of the rounding limit" not in said


@pytest.mark.parametrize("form", ["text", "markdown", "github", "html"])
def test_the_verdict_on_folded_layers_names_their_formula(form: str) -> None:
    failing = replace(PLAIN, name="second", statistics=Statistics.FOLDED, status=LayerStatus.MISMATCH)
    one = report(replace(PLAIN, statistics=Statistics.FOLDED), failing)
    one = replace(one, models=tuple(replace(model, status=Status.FAIL) for model in one.models))
    said = REPORTS[form](one, Looks()).replace("&#42;", "*")
    assert "1 of 2 layers equal gamma*x+beta in keras 3" in said
    assert "statistics of each" not in said
