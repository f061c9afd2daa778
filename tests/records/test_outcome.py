"""The table of exit codes, and that nothing unchecked comes out as a pass."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from bninspect import errors
from bninspect.records import (
    Counterpart,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Severity,
    Status,
    Unread,
    outcome,
)


def one_layer(status: LayerStatus | None, *severities: Severity, ignored: str | None = None) -> LayerReport:
    findings = tuple(Finding("BN1", severity, "m", ignored=ignored) for severity in severities)
    return LayerReport("bn", "", 1, -1, 1e-3, "file", 0.9, "float32", True, True, status=status, findings=findings)


def model(status: Status) -> ModelReport:
    return ModelReport("m", None, 0, "keras-h5", "", status)


@pytest.mark.parametrize(
    ("statuses", "severities", "fail_on", "expected"),
    [
        (["verified"], [], "error", Status.PASS),
        (["verified"], ["warning"], "error", Status.PASS),
        (["verified"], ["warning"], "warning", Status.FAIL),
        (["verified"], ["note"], "note", Status.FAIL),
        (["verified"], ["error"], "error", Status.FAIL),
        (["verified"], ["error"], "never", Status.PASS),
        (["verified", "mismatch"], [], "error", Status.FAIL),
        (["mismatch"], [], "never", Status.PASS),
        (["mismatch", "unverified"], [], "error", Status.ERROR),
        (["unverified"], [], "never", Status.ERROR),
        ([], [], "error", Status.EMPTY),
    ],
)
def test_the_verdict_on_a_model(statuses: list[str], severities: list[str], fail_on: str, expected: Status) -> None:
    layers = [one_layer(LayerStatus(status), *map(Severity, severities)) for status in statuses]
    assert outcome.model_status(layers, (), fail_on) is expected


@pytest.mark.parametrize(("own", "there"), [("unverified", "mismatch"), ("mismatch", "unverified")])
def test_what_was_not_checked_on_one_side_closes_the_gate_whatever_the_other_is_like(own: str, there: str) -> None:
    counterpart = Counterpart(LayerStatus(there), LayerStatus(own), "folded")
    layer = replace(one_layer(LayerStatus.MISMATCH), counterpart=counterpart)
    assert outcome.model_status([layer], (), "never") is Status.ERROR
    assert outcome.model_status([replace(layer, known="as in the baseline")], (), "never") is Status.PASS


@pytest.mark.parametrize("fail_on", ["error", "never"])
def test_calls_that_were_not_read_close_the_gate_whatever_the_layers_are_like(fail_on: str) -> None:
    unread = (Unread("function f", 2, "its parameters are arguments"),)
    for layers in ([], [one_layer(LayerStatus.VERIFIED)], [one_layer(LayerStatus.MISMATCH)]):
        assert outcome.model_status(layers, (), fail_on, unread) is Status.ERROR
    known = (replace(unread[0], known="not read in the baseline either"),)
    assert outcome.model_status([one_layer(LayerStatus.VERIFIED)], (), fail_on, known) is Status.PASS
    assert outcome.model_status([], (), fail_on, known) is Status.EMPTY
    assert outcome.model_status([one_layer(LayerStatus.VERIFIED)], (), fail_on, (*known, *unread)) is Status.ERROR


def test_an_ignored_finding_does_not_fail() -> None:
    layers = [one_layer(LayerStatus.VERIFIED, Severity.ERROR, ignored="known")]
    assert outcome.model_status(layers, (), "error") is Status.PASS


def test_precedence_of_exit_codes() -> None:
    codes = {Status.PASS: 0, Status.FAIL: 1, Status.ERROR: 3, Status.EMPTY: 5}
    order = [3, 1, 5, 0]
    for statuses in itertools.product(codes, repeat=3):
        expected = min((codes[status] for status in statuses), key=order.index)
        assert outcome.exit_code([model(status) for status in statuses]) == expected


def test_nothing_at_all_is_not_a_success() -> None:
    assert outcome.exit_code([]) == 5
    assert outcome.exit_code([], allow_empty=True) == 0
    assert outcome.exit_code([model(Status.EMPTY), model(Status.ERROR)], allow_empty=True) == 3


def test_an_error_keeps_its_code_and_its_words() -> None:
    broken = outcome.broken("m.h5", errors.DamagedFile("truncated", why="12 of 400 bytes", hint="copy it again"))
    assert (broken.status, outcome.exit_code([broken])) == (Status.ERROR, 3)
    assert broken.error is not None
    assert (broken.error.kind, broken.error.why) == ("DamagedFile", "12 of 400 bytes")
    empty = outcome.broken("m.h5", errors.NothingToCheck("no layer"))
    assert (empty.status, outcome.exit_code([empty])) == (Status.EMPTY, 5)


def test_the_report_counts_what_it_holds() -> None:
    layers = (one_layer(LayerStatus.VERIFIED, Severity.NOTE), one_layer(LayerStatus.MISMATCH, Severity.ERROR))
    one = ModelReport("m", None, 0, "f", "", Status.FAIL, layers=layers)
    report = outcome.report(
        "verify", [one, model(Status.EMPTY)], options={}, allow_empty=False, running={"device": "CPU"}
    )
    counted = report.summary
    assert (counted.models, counted.layers, counted.verified, counted.mismatch) == (2, 2, 1, 1)
    assert counted.findings == {"error": 1, "warning": 0, "note": 1}
    assert (counted.status, counted.exit_code) == (Status.FAIL, 1)
    assert report.environment["device"] == "CPU"
    assert report.environment["numpy"]
