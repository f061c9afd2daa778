"""Every output format tells of the export that a model was held against, and never blames the model itself for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers import made_reports

from bninspect.records import Comparison, Counterpart, Export, Finding, LayerStatus, Report, Severity, Status, outcome
from bninspect.reports import Looks, github, html, junit, markdown
from bninspect.reports.html import notebook
from bninspect.reports.text import verify

junitparser = pytest.importorskip("junitparser")

FORMATS: dict[str, Callable[[Report], str]] = {
    "github": github.render,
    "html": html.render,
    "markdown": markdown.render,
    "notebook": notebook.of_report,
}


def compared(observed: str, ratio: float) -> Comparison:
    return Comparison(observed, "folded", 64, 0 if ratio <= 1 else 60, ratio, 0.1, 1.0, 0, None)


def right() -> Counterpart:
    comparisons = (compared("weights", 0.31), compared("bias", 0.24))
    return Counterpart(
        LayerStatus.VERIFIED, LayerStatus.VERIFIED, "folded", "convolution 'c 0'", comparisons=comparisons
    )


def wrong() -> Counterpart:
    comparisons = (compared("weights", 700.0), compared("bias", 0.24))
    how, place, sentence = "folded", "convolution 'c 1'", "epsilon was left out"
    return Counterpart(LayerStatus.MISMATCH, LayerStatus.VERIFIED, how, place, sentence, comparisons=comparisons)


def missing() -> Counterpart:
    return Counterpart(
        LayerStatus.UNVERIFIED, LayerStatus.VERIFIED, "", sentence="its convolution is not in the export"
    )


def held(*counterparts: Counterpart, same: bool = True) -> Report:
    """Return the report on a model that is right itself, with an export in which this became of its layers."""
    layers = []
    for number, one in enumerate(counterparts):
        found = (Finding("BN401", Severity.ERROR, f"other numbers: {one.sentence}", {}, "convert it again"),)
        layers.append(
            replace(
                made_reports.layer(f"bn_{number}", 0.97),
                status=one.status,
                counterpart=one,
                findings=found if one.status is LayerStatus.MISMATCH else (),
                reason=one.sentence if one.status is LayerStatus.UNVERIFIED else "",
            )
        )
    export = Export("export.tflite", "5ae1", 900, "tflite", "a converter", "LiteRT 2", same)
    another = (Finding("BN410", Severity.ERROR, "export.tflite is not the same model", {}, "another"),) * (not same)
    status = outcome.model_status(tuple(layers), another, "error")
    model = replace(made_reports.model("m.h5", *layers), status=status, runtime="keras 3", findings=another)
    return made_reports.report(replace(model, against=export))


@pytest.mark.parametrize("name", FORMATS)
def test_the_model_is_not_blamed_for_its_export(name: str) -> None:
    said = FORMATS[name](held(right(), wrong())).replace("&#42;", "*").replace("%25", "%")
    assert "2 of 2 layers equal gamma*(x-mean)/sqrt(variance+epsilon)+beta in keras 3" in said
    assert "against export.tflite: 1 of 2 batch norms are in the export with the right numbers" in said
    assert "epsilon was left out" in said


def _verdicts(report: Report) -> list[str]:
    shown = verify.render(report, Looks()).splitlines()
    return [line.split()[0] for line in shown[:-1] if "of 1 " in line]


def test_the_screen_has_a_verdict_on_each_of_the_two() -> None:
    assert _verdicts(held(right())) == ["PASS", "PASS"]
    assert _verdicts(held(wrong())) == ["ok", "FAIL"]
    assert _verdicts(held(missing())) == ["ok", "ERROR"]


def test_the_export_is_not_blamed_for_its_model() -> None:
    found = made_reports.finding("BN102")
    (model,) = held(right()).models
    (layer,) = model.layers
    failing = replace(model, layers=(replace(layer, findings=(found,)),), status=Status.FAIL)
    assert _verdicts(made_reports.report(failing)) == ["FAIL", "ok"]
    assert _verdicts(made_reports.report(replace(failing, status=Status.PASS), fail_on="never")) == ["PASS", "PASS"]


def test_what_a_right_export_depends_on_is_said_last() -> None:
    (model,) = held(right()).models
    assert model.against is not None
    model = replace(model, against=replace(model.against, condition="its ranges hold your data"))
    said = verify.render(made_reports.report(model), Looks())
    assert "can this ship?  yes, if its ranges hold your data. Every kernel and batch norm is proved" in said


@pytest.mark.parametrize("name", FORMATS)
def test_another_model_is_said_before_all_and_once(name: str) -> None:
    said = FORMATS[name](held(*[wrong()] * 30, same=False))
    # A page says why the model fails at its head, and again among its findings.
    parts = said.split("<h3>Findings</h3>")
    assert len(parts) == (2 if name == "html" else 1)
    assert [part.count("export.tflite is not the same model") for part in parts] == [1] * len(parts)
    for part in parts:
        assert "epsilon was left out" not in part.partition("export.tflite is not the same model")[0]
    if name != "html":  # which has room for all layers
        assert "other numbers" not in said.partition("<table")[0].partition("<details")[0]


def test_a_right_export_is_told_of_too() -> None:
    for render in (html.render, markdown.render):
        said = render(held(right(), right()))
        assert "2 of 2 batch norms are in the export with the right numbers: 2 folded and matched in LiteRT 2" in said
        assert said.replace("&#37;", "%").count("31 %") >= 2


def test_the_export_of_each_layer_is_a_case() -> None:
    (suite,) = junitparser.JUnitXml.fromstring(junit.render(held(right(), wrong(), missing())).encode())
    cases = {case.name: case for case in suite}
    assert (suite.failures, suite.errors) == (1, 1)
    assert {one.name: one.value for one in suite.properties()}["against"] == "export.tflite"
    assert not cases["bn_0: in the export export.tflite"].result
    assert "weights: measured 31 % of the limit" in cases["bn_0: in the export export.tflite"].system_out
    (failure,) = cases["bn_1: in the export export.tflite"].result
    assert (type(failure).__name__, failure.type) == ("Failure", "BN401")
    assert "weights: measured 700 times the limit" in failure.text
    (error,) = cases["bn_2: in the export export.tflite"].result
    assert (type(error).__name__, error.message) == ("Error", "its convolution is not in the export")
    assert all(not cases[f"bn_{number}: in the model"].result for number in range(3))


def test_the_worst_error_of_a_model_is_also_that_of_its_export() -> None:
    row = next(line for line in markdown.render(held(right(), wrong())).splitlines() if line.startswith("| ❌ FAIL |"))
    assert "700 times the limit" in row
