"""JUnit XML as junitparser reads it, which has no part in writing it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from helpers.any_reports import reports
from helpers.layers import layer, observation
from hypothesis import given, settings

from bninspect.errors import DamagedFile, NothingToCheck
from bninspect.records import Evidence, LayerReport, ModelReport, Option, Report, Run
from bninspect.records import outcome as verdict
from bninspect.reports import junit
from bninspect.settings import Settings
from bninspect.verdicts.layers import Judge

junitparser = pytest.importorskip("junitparser")

RUN = Run("keras 3", Evidence.MODEL)


@cache
def judged(*, wrong: bool = False, reached: bool = True, **settings: Any) -> LayerReport:
    stored = layer()
    judge = Judge((stored,), Settings(**settings))
    for observed in ("in-model", "probed") if reached else ("probed",):
        seen = observation(stored, observed)
        judge.see(replace(seen, y=seen.y + 1) if wrong else seen)
    (report,) = judge.reports(RUN)
    return report


def reported(*models: ModelReport, **options: object) -> Report:
    named = {name: Option(value, "command line") for name, value in options.items()}
    return verdict.report("verify", models, options=named, allow_empty=False, running={})


def model(*layers: LayerReport, fail_on: str = "error", path: str = "m.h5") -> ModelReport:
    status = verdict.model_status(layers, (), fail_on)
    return ModelReport(path, "ab12", 9, "keras-h5", "Keras 3.1", status, "keras 3", Evidence.MODEL, layers=layers)


def suites(report: Report) -> list[Any]:
    return list(junitparser.JUnitXml.fromstring(junit.render(report).encode()))


def outcomes(report: Report) -> dict[str, list[tuple[str, str]]]:
    """Return what became of each case, by its name."""
    found = {}
    for suite in suites(report):
        for case in suite:
            found[case.name] = [(type(result).__name__, result.message) for result in case.result]
    return found


def test_a_suite_is_a_model_and_a_case_a_check_of_a_layer() -> None:
    report = reported(model(judged()))
    (suite,) = suites(report)
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("m.h5", 3, 0, 0, 0)
    assert {one.name: one.value for one in suite.properties()}["sha256"] == "ab12"
    cases = {case.name: case for case in suite}
    assert set(cases) == {"bn: in the model", "bn: the layer run alone", "bn: BN113"}
    said = cases["bn: in the model"].system_out
    comparison = report.models[0].layers[0].comparisons[0]
    assert comparison.worst is not None
    assert f"measured: {comparison.ratio:.0%}".replace("%", " % of the limit, 0 of 60 values over it") in said
    assert f"channel: {comparison.worst.channel}, index {list(comparison.worst.index)}" in said


def test_a_mismatch_is_a_failure_with_what_was_measured_and_allowed() -> None:
    report = reported(model(judged(wrong=True)))
    (suite,) = suites(report)
    assert (suite.failures, suite.errors) == (2, 0)
    case = next(case for case in suite if case.name == "bn: in the model")
    (failure,) = case.result
    assert isinstance(failure, junitparser.Failure)
    assert failure.type == "BN301"
    assert failure.message.startswith("60 of 60 values in the model are wrong, the worst by ")
    for words in ("measured: ", "60 of 60 values over it", "by hand: ", "runtime: ", "cause: "):
        assert words in failure.text


def test_what_could_not_be_checked_is_an_error() -> None:
    broken = verdict.broken("m.h5", DamagedFile("truncated", why="12 of 400 bytes", hint="copy it again"))
    report = reported(broken, model(judged(reached=False), path="n.h5"))
    first, second = suites(report)
    (result,) = next(iter(first)).result
    assert isinstance(result, junitparser.Error)
    assert (result.type, result.message, result.text) == (
        "DamagedFile",
        "truncated",
        "why: 12 of 400 bytes\nhint: copy it again",
    )
    assert (second.errors, second.failures) == (1, 0)
    ((kind, message),) = outcomes(report)["bn: verified"]
    assert kind == "Error"
    assert message.startswith("the forward pass did not reach it")


@pytest.mark.parametrize(
    ("fail_on", "ignore", "outcome"),
    [
        ("note", (), ("Failure", "variance below epsilon in 1 channel: any other epsilon changes this model")),
        ("note", ("BN113",), ("Skipped", "ignored (--ignore): variance below epsilon in 1 channel")),
        ("warning", (), None),
    ],
)
def test_a_finding_fails_is_ignored_or_only_told(
    fail_on: str, ignore: tuple[str, ...], outcome: tuple[str, str] | None
) -> None:
    found = outcomes(reported(model(judged(ignore=ignore), fail_on=fail_on), fail_on=fail_on))["bn: BN113"]
    if outcome is None:
        assert found == []
    else:
        ((kind, message),) = found
        assert kind == outcome[0]
        assert message.startswith(outcome[1])


def test_a_mismatch_that_is_not_to_count_is_skipped_and_says_so() -> None:
    unreached = replace(judged(reached=False), name="other")
    found = outcomes(reported(model(judged(wrong=True), unreached, fail_on="never"), fail_on="never"))
    assert found["other: verified"][0][0] == "Error"
    ((kind, message),) = found["bn: the layer run alone"]
    assert kind == "Skipped"
    assert message.startswith(
        "not counted because of --fail-on never: 60 of 60 values of the layer run alone are wrong"
    )
    known = replace(judged(wrong=True), known="a mismatch in the baseline too")
    failing = replace(judged(wrong=True), name="other")
    found = outcomes(reported(model(known, failing)))
    assert found["other: the layer run alone"][0][0] == "Failure"
    ((kind, message),) = found["bn: the layer run alone"]
    assert kind == "Skipped"
    assert message.startswith("a mismatch in the baseline too: 60 of 60 values")


def test_what_a_program_let_pass_is_no_failure_though_the_report_does_not_say_why() -> None:
    passed = model(judged(wrong=True), fail_on="never")
    found = outcomes(reported(passed))
    assert {kind for case in found.values() for kind, _ in case} == {"Skipped"}
    told = replace(passed, layers=(replace(judged(), findings=judged(wrong=True).findings),))
    assert outcomes(reported(told))["bn: BN301"] == []


def test_a_model_with_nothing_to_check_is_skipped() -> None:
    found = outcomes(reported(verdict.broken("m.h5", NothingToCheck("no batch-norm layer"))))
    assert found == {"model": [("Skipped", "no batch-norm layer")]}


@settings(max_examples=60)
@given(report=reports())
def test_counts_are_those_of_the_cases_and_the_text_is_plain_ascii(report: Report) -> None:
    text = junit.render(report)
    assert text.isascii()
    root = ET.fromstring(text)
    for suite in [root, *root.iter("testsuite")]:
        cases = list(suite.iter("testcase"))
        assert int(suite.attrib["tests"]) == len(cases)
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == sum(case.find(tag) is not None for case in cases)
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped", "system-out"
    }  # fmt: skip
