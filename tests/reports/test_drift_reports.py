"""Every format tells of data that differs: the first layer, the cause, and layers behind it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bninspect.records import (
    DataFit,
    DataReport,
    Departure,
    Finding,
    InputChange,
    LayerReport,
    LayerStatus,
    ModelReport,
    Report,
    Severity,
    Status,
    outcome,
)
from bninspect.reports import REPORTS, Looks

HOSTILE = "<script>alert(1)</script>"


def departure(effect: float) -> Departure:
    return Departure(9.0, 1.0, effect, 0.1, 3, 0.5, 0.7, 4, (-effect, -0.1, 0.0, 0.1, effect), (0.1, effect, None))


def layer(name: str, effect: float, inherited: str = "") -> LayerReport:
    differs = effect > 0.25
    fit = DataFit(
        "differs" if differs else "fits", 400, 4000, departure(effect), departure(effect / 2), 4.2, 0.25, 0.1,
        momentum=0.99, inherited=inherited,
    )  # fmt: skip
    rule = ("BN502", Severity.NOTE) if inherited else ("BN501", Severity.ERROR)
    findings = (Finding(*rule, "the stored statistics are not those of the data: mean off", {}, "the hint"),)
    status = LayerStatus.MISMATCH if differs else LayerStatus.VERIFIED
    return LayerReport(
        name, "", 3, -1, 1e-3, "file", 0.99, "float32", True, True,
        status=status, findings=findings if differs else (), fit=fit,
    )  # fmt: skip


def report(*layers: LayerReport, changes: tuple[InputChange, ...] = ()) -> Report:
    first = next((one.name for one in layers if one.status is LayerStatus.MISMATCH), "")
    about = DataReport(HOSTILE, 400, "", 32, 32, True, first=first, changes=changes, tried=60)
    status = Status.FAIL if first else Status.PASS
    model = ModelReport("m.h5", None, 1, "keras-h5", "Keras", status, runtime="keras 3", layers=layers, data=about)
    return outcome.report("drift", [model], options={}, allow_empty=False, running={})


CHANGE = InputChange("scale 0..255 to 0..1", "the data is 0..255; the model was trained on 0..1", 0.01, ("one", "two"))
DIFFERING = report(layer("zero", 0.1), layer("one", 300.0), layer("two", 2.0, "one"), changes=(CHANGE,))


@pytest.mark.parametrize("form", [form for form in REPORTS if form not in {"json", "jsonl"}])
def test_the_first_layer_is_named_and_no_format_speaks_of_the_runtime(form: str) -> None:
    text = REPORTS[form](DIFFERING, Looks())
    assert "one" in text
    if form == "intoto":  # the result of each test by its name, without a sentence
        assert json.loads(text)["predicate"]["failedTests"] == ["m.h5: one", "m.h5: two"]
    else:
        assert "not those of the data" in text.replace("\n", " ") or form == "text"
    assert "the runtime holds something else" not in text
    assert "<script>" not in text or form in {"text", "github"}


def test_the_terminal_says_the_cause_and_what_it_explains() -> None:
    text = REPORTS["text"](DIFFERING, Looks())
    assert "FAIL  the stored statistics of 1 of 3 layers are those of the data; the first that differs is one" in text
    assert "cause  the data is 0..255; the model was trained on 0..1 (explains one to two, 2 layers)" in text
    assert "to try it on this data: --prepare unit (divided by 255)" in text
    assert "(inherited from one)" in text
    assert "(assumed; --trained-batch says it)" in text


def test_without_a_cause_both_that_are_left_are_said() -> None:
    text = REPORTS["text"](report(layer("one", 0.6)), Looks())
    assert "none of 60 changes of the input explains it" in text
    assert "lag behind the weights" in text


def test_the_page_draws_means_and_variances_over_depth_and_each_channel_that_differs() -> None:
    page: Any = REPORTS["html"](DIFFERING, Looks())
    assert page.count("<figure>") == 2
    assert "mean of the data less the stored mean" in page
    assert page.count("channel by channel") == 2
    assert "the dashed line is the tolerance" in page
    assert "two: its statistics differ from those of the data, after one" in page
    assert "not compared" not in page


def test_a_model_that_fits_says_what_would_have_been_seen() -> None:
    text = REPORTS["text"](report(layer("one", 0.1)), Looks())
    *_, verdict, _whole = text.splitlines()
    assert verdict.startswith("PASS  the stored statistics of 1 of 1 layer are those of the data")
    assert "a shift of 0.1 deviations would have been seen" in text
