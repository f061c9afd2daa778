"""The JSON document is the report: it fits its schema, reads back equal, and is strict ASCII JSON."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect import summary
from bninspect.records import (
    Channel,
    Comparison,
    Distribution,
    Evidence,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Option,
    Problem,
    Report,
    Severity,
    Statistics,
    Status,
    Strip,
    Worst,
)
from bninspect.reports import json_document, schema

TEXT = st.text(max_size=10)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 10**12)
WORST = st.builds(Worst, st.lists(COUNTS, max_size=4).map(tuple), COUNTS, *[NUMBERS] * 9)
COMPARISONS = st.builds(
    Comparison,
    TEXT,
    TEXT,
    COUNTS,
    COUNTS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    COUNTS,
    st.none() | WORST,
    st.just((1, 2)),
    COUNTS,
    st.just((None, 0.5)),
    st.lists(st.builds(Channel, COUNTS, *[NUMBERS] * 5), max_size=2).map(tuple),
)
FINDINGS = st.builds(
    Finding, TEXT, st.sampled_from(Severity), TEXT, st.dictionaries(TEXT, COUNTS), TEXT, st.none() | TEXT
)
STRIPS = st.none() | st.builds(Strip, COUNTS, st.just((None, 1.0)), st.just(()), st.just((3,)))
DISTRIBUTIONS = st.builds(
    Distribution, NUMBERS, st.just((None, 1.0)), NUMBERS, COUNTS, st.just((1, 2)), STRIPS, NUMBERS, st.just((0, 2))
)
LAYERS = st.builds(
    LayerReport,
    name=TEXT,
    location=TEXT,
    channels=COUNTS,
    axis=st.none() | st.integers(-4, 4) | st.just((1, 3)),
    epsilon=NUMBERS,
    epsilon_source=st.none() | TEXT,
    momentum=NUMBERS,
    dtype=TEXT,
    scale=st.booleans(),
    center=st.booleans(),
    statistics=st.sampled_from(Statistics),
    status=st.none() | st.sampled_from(LayerStatus),
    comparisons=st.lists(COMPARISONS, max_size=2).map(tuple),
    findings=st.lists(FINDINGS, max_size=2).map(tuple),
    parameters=st.dictionaries(TEXT, DISTRIBUTIONS, max_size=2),
)
MODELS = st.builds(
    ModelReport,
    path=TEXT,
    sha256=st.none() | TEXT,
    bytes=COUNTS,
    format=TEXT,
    writer=TEXT,
    status=st.sampled_from(Status),
    runtime=st.none() | TEXT,
    evidence=st.none() | st.sampled_from(Evidence),
    error=st.none() | st.builds(Problem, TEXT, TEXT, TEXT, TEXT, st.just(3)),
    layers=st.lists(LAYERS, max_size=2).map(tuple),
)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    document = json.loads(schema.text())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@settings(max_examples=60, deadline=None)
@given(models=st.lists(MODELS, max_size=2))
def test_every_report_fits_the_schema_and_reads_back(
    models: list[ModelReport], validator: jsonschema.Draft202012Validator
) -> None:
    options = {"seed": Option(0, "default"), "layers": Option(["a"], "command line")}
    report = summary.report("verify", models, options=options, allow_empty=False, running={"onednn": True})
    text = json_document.render(report)
    assert text.isascii()
    validator.validate(json.loads(text))
    assert json_document.parse(text) == report


def test_the_shipped_schema_is_the_derived_one() -> None:
    assert schema.text() == schema.derive(), "write schema.derive() to bninspect/reports/report.schema.json"


def test_the_schema_refuses_what_is_no_report(validator: jsonschema.Draft202012Validator) -> None:
    report = summary.report("verify", [], options={}, allow_empty=True, running={})
    document = json.loads(json_document.render(report))
    for field in dataclasses.fields(Report):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            assert not validator.is_valid({key: value for key, value in document.items() if key != field.name})
    assert not validator.is_valid({**document, "summary": {**document["summary"], "exit_code": "0"}})
