"""A baseline excuses what was so already: never more, never what is worse, gone or could not be checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.made_reports import comparison, finding, layer, model, report, unverified
from hypothesis import given
from hypothesis import strategies as st

from bninspect import errors
from bninspect.jobs import baseline
from bninspect.records import (
    Counterpart,
    Export,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Severity,
    Status,
    Unread,
)
from bninspect.records import outcome as summary
from bninspect.settings import Settings

DEFAULTS = Settings()


def status(now: ModelReport, *before: ModelReport, settings: Settings = DEFAULTS) -> Status:
    return baseline.judged(now, report(*before), settings).status


def errors_of(one: LayerReport) -> set[str]:
    return {found.rule for found in one.findings if found.severity is Severity.ERROR}


RATIOS = st.one_of(st.none(), st.floats(0, 1e6))
FINDINGS = st.lists(
    st.builds(finding, st.sampled_from(["BN110", "BN113", "BN301"]), st.sampled_from(list(Severity))), max_size=3
)
LAYERS = st.one_of(st.just(unverified()), st.builds(lambda ratio, found: layer("bn", ratio, *found), RATIOS, FINDINGS))


@given(now=LAYERS, fail_on=st.sampled_from(["error", "warning", "note"]))
def test_what_is_as_it_was_passes(now: LayerReport, fail_on: str) -> None:
    settings = Settings(fail_on=fail_on)
    same = model("m.h5", now, fail_on=fail_on)
    assert status(same, same, settings=settings) is Status.PASS


@given(now=LAYERS, before=LAYERS)
def test_what_passes_with_a_baseline_passes_without_or_was_no_better(now: LayerReport, before: LayerReport) -> None:
    if status(model("m.h5", now), model("m.h5", before)) is not Status.PASS:
        return
    if model("m.h5", now).status is not Status.PASS:
        assert now.status in (before.status, LayerStatus.VERIFIED)
        assert errors_of(now) <= errors_of(before)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ((Unread("function f", 2, "why"),), Status.PASS),
        ((Unread("function f", 3, "another why"),), Status.PASS),
        ((Unread("function f", 1, "why"),), Status.ERROR),
        ((Unread("function g", 2, "why"),), Status.ERROR),
        ((), Status.ERROR),
    ],
)
def test_calls_that_were_not_read_are_known_where_no_fewer_were_before(
    before: tuple[Unread, ...], expected: Status
) -> None:
    now = replace(model("m.h5"), unread=(Unread("function f", 2, "why"),), status=Status.ERROR)
    assert status(now, replace(model("m.h5"), unread=before)) is expected


@given(now=LAYERS)
def test_nothing_changes_without_a_counterpart(now: LayerReport) -> None:
    alone = model("m.h5", now)
    assert baseline.judged(alone, report(model("another.h5", layer())), DEFAULTS) == alone


@pytest.mark.parametrize("before", [layer(), layer(ratio=1.0)])
@pytest.mark.parametrize("now", [layer(ratio=1.01), layer(ratio=None), unverified()])
def test_a_layer_that_was_verified_and_is_not_fails(now: LayerReport, before: LayerReport) -> None:
    assert status(model("m.h5", now), model("m.h5", before)) is model("m.h5", now).status is not Status.PASS


@pytest.mark.parametrize(
    ("before", "now", "passes"),
    [
        (50.0, 50.0, True),
        (50.0, 99.0, True),  # other kernels and inputs
        (50.0, 101.0, False),
        (50.0, None, False),
        (None, None, True),
        (None, 50.0, True),
        (1.5, 1e9, False),
    ],
)
def test_a_mismatch_is_known_until_it_is_much_further_off(
    before: float | None, now: float | None, passes: bool
) -> None:
    judged = baseline.judged(model("m.h5", layer(ratio=now)), report(model("m.h5", layer(ratio=before))), DEFAULTS)
    assert (judged.status is Status.PASS) is passes
    (one,) = judged.layers
    assert one.status is LayerStatus.MISMATCH  # it says what it is, whatever it counts
    assert bool(one.known) is passes
    assert [found.ignored for found in one.findings] == [baseline.KNOWN if passes else None]


def in_export(ratio: float) -> LayerReport:
    """Return a layer whose weights in an export are off by this much."""
    weights = replace(comparison(ratio, "weights"), reference="folded")
    found = finding("BN401", place="convolution 'c'", causes=[], weights=ratio)
    counterpart = Counterpart(LayerStatus.MISMATCH, LayerStatus.VERIFIED, "folded", comparisons=(weights,))
    return replace(layer("bn", 0.5, found), status=LayerStatus.MISMATCH, counterpart=counterpart)


def held(layer: LayerReport, *outputs: float, **evidence: Any) -> ModelReport:
    """Return the report of a model whose export returns outputs that are off by this much."""
    compared = tuple(replace(comparison(one, "model output"), reference="source") for one in outputs)
    export = Export("m.tflite", None, 1, "tflite", "", None, same=True, outputs=compared)
    wrong = bool(evidence) or any(not one.agrees for one in compared)
    findings = (finding("BN411", **evidence),) if wrong else ()
    return replace(model("m.h5", layer), against=export, findings=findings)


@pytest.mark.parametrize(("before", "now", "passes"), [(50.0, 99.0, True), (50.0, 101.0, False)])
def test_a_mismatch_in_an_export_is_known_until_it_is_much_further_off(before: float, now: float, passes: bool) -> None:
    judged = status(held(in_export(now)), held(in_export(before)))
    assert judged is (Status.PASS if passes else Status.FAIL)


@pytest.mark.parametrize(
    ("own", "status_there", "verdict"),
    [
        (LayerStatus.VERIFIED, LayerStatus.MISMATCH, Status.PASS),
        (LayerStatus.UNVERIFIED, LayerStatus.MISMATCH, Status.ERROR),
        (LayerStatus.MISMATCH, LayerStatus.UNVERIFIED, Status.ERROR),
    ],
)
def test_a_mismatch_does_not_excuse_what_was_not_checked_beside_it(
    own: LayerStatus, status_there: LayerStatus, verdict: Status
) -> None:
    before = in_export(50.0)
    assert before.counterpart is not None
    now = replace(before, counterpart=replace(before.counterpart, own=own, status=status_there))
    assert status(held(now), held(before)) is verdict


@pytest.mark.parametrize(
    ("before", "now", "passes"),
    [
        ((0.5, 50.0), (0.5, 99.0), True),
        ((0.5, 50.0), (0.5, 101.0), False),
        ((0.5, 50.0), (50.0, 0.5), False),  # another output
        ((50.0,), (50.0, 50.0), False),
    ],
)
def test_outputs_of_an_export_are_known_until_they_are_much_further_off(
    before: tuple[float, ...], now: tuple[float, ...], passes: bool
) -> None:
    judged = status(held(layer(), *now), held(layer(), *before))
    assert judged is (Status.PASS if passes else Status.FAIL)


def test_an_output_that_an_export_has_lost_is_known_by_its_name() -> None:
    off, lost = held(layer(), 50.0), held(layer(), 0.5, outputs=["1 of shape (1, 3)"])
    assert status(lost, lost) is Status.PASS
    assert status(lost, off) is Status.FAIL


def test_a_mismatch_where_there_was_none_fails_although_another_is_known() -> None:
    probed = comparison(50.0, "probed")
    before = layer(ratio=50.0)
    now = replace(before, comparisons=(*before.comparisons, probed))
    assert status(model("m.h5", now), model("m.h5", before)) is Status.FAIL


def test_an_unverified_layer_that_was_a_mismatch_is_not_excused() -> None:
    assert status(model("m.h5", unverified()), model("m.h5", layer(ratio=9.0))) is Status.ERROR
    assert status(model("m.h5", layer(ratio=9.0)), model("m.h5", unverified())) is Status.FAIL


@pytest.mark.parametrize(
    ("before", "now", "passes"),
    [
        (finding("BN110"), finding("BN110"), True),
        (finding("BN110"), finding("BN111"), False),
        (finding("BN110", Severity.WARNING), finding("BN110", Severity.ERROR), False),
        (finding("BN110", channels=[1, 5], count=2), finding("BN110", channels=[5], count=1), True),
        (finding("BN110", channels=[1, 5], count=2), finding("BN110", channels=[5, 6], count=2), False),
        (finding("BN110", channels=[1], count=500), finding("BN110", channels=[1], count=501), False),
        (finding("BN110", channels="damaged"), finding("BN110", channels=[[1]], count="2"), False),
        (finding("BN110", channels=4), finding("BN110", channels=4), True),
    ],
)
def test_a_finding_is_known_if_it_says_no_more_than_before(before: Finding, now: Finding, passes: bool) -> None:
    judged = baseline.judged(
        model("m.h5", layer("bn", 0.5, now)), report(model("m.h5", layer("bn", 0.5, before))), DEFAULTS
    )
    assert judged.status is (Status.PASS if passes else Status.FAIL)
    assert judged.layers[0].findings[0].ignored == (baseline.KNOWN if passes else None)


def test_the_reason_of_an_ignored_finding_stays() -> None:
    ignored = replace(finding(), ignored="known since May")
    judged = baseline.judged(
        model("m.h5", layer("bn", 0.5, ignored)), report(model("m.h5", layer("bn", 0.5, finding()))), DEFAULTS
    )
    assert judged.layers[0].findings[0].ignored == "known since May"


def test_a_layer_that_is_gone_fails_and_is_named() -> None:
    before = model("m.h5", layer("a"), layer("b"))
    judged = baseline.judged(model("m.h5", layer("a")), report(before), DEFAULTS)
    assert judged.status is Status.ERROR
    assert [(one.name, one.status) for one in judged.layers] == [
        ("a", LayerStatus.VERIFIED),
        ("b", LayerStatus.UNVERIFIED),
    ]
    assert "gone" in judged.layers[1].reason


def test_a_layer_that_was_not_asked_for_is_not_missed() -> None:
    before = model("m.h5", layer("a"), layer("b"))
    assert status(model("m.h5", layer("a")), before, settings=Settings(layers=("a",))) is Status.PASS


def test_a_new_layer_is_judged_as_it_is() -> None:
    assert status(model("m.h5", layer("a"), layer("b")), model("m.h5", layer("a"))) is Status.PASS
    assert status(model("m.h5", layer("a"), layer("b", 9.0)), model("m.h5", layer("a"))) is Status.FAIL


def test_what_could_not_be_checked_is_never_excused() -> None:
    broken = summary.broken("m.h5", errors.DamagedFile("truncated"))
    assert status(broken, broken) is Status.ERROR
    assert status(broken, model("m.h5")) is Status.ERROR
    assert status(model("m.h5", layer(ratio=9.0)), broken) is Status.FAIL


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ([model("v1/m.h5", layer(ratio=9.0))], False),  # of the same name, and another model
        ([model("./v2//m.h5", layer(ratio=9.0))], True),
        ([model(str(Path.cwd() / "v2/m.h5"), layer(ratio=9.0))], True),
        ([model("other.h5", layer(ratio=9.0), sha256="digest of v2/m.h5")], True),
        ([model("other.h5", layer(ratio=9.0)), model("v2/m.h5", layer(ratio=9.0))], True),
    ],
)
def test_the_counterpart_is_found_by_path_or_content(before: list[ModelReport], found: bool) -> None:
    assert (status(model("v2/m.h5", layer(ratio=9.0)), *before) is Status.PASS) is found


def test_a_model_that_a_search_no_longer_finds_is_missed_and_no_other() -> None:
    before = report(model("models/a.h5"), model("models/b.h5"), model("elsewhere/c.h5"))
    missing = baseline.gone(before, ["models/a.h5"], ["models"])
    assert [(one.path, one.status) for one in missing] == [("models/b.h5", Status.ERROR)]
    assert summary.exit_code(missing) == 3
    assert baseline.gone(before, ["models/a.h5"], []) == []


def test_models_without_a_digest_are_no_counterparts_of_each_other() -> None:
    one, other = (replace(model(path, layer(ratio=9.0)), sha256=None) for path in ("a.h5", "b.h5"))
    assert status(one, other) is Status.FAIL
