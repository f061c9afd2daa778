"""The JSON document is the report: it fits its schema, reads back equal, and is strict ASCII JSON."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest
from helpers.any_reports import MODELS
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.records import ModelReport, Option, Report, outcome
from bninspect.reports import json_document, schema


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
    report = outcome.report("verify", models, options=options, allow_empty=False, running={"onednn": True})
    text = json_document.render(report)
    assert text.isascii()
    validator.validate(json.loads(text))
    assert json_document.parse(text) == report


def test_the_shipped_schema_is_the_derived_one() -> None:
    assert schema.text() == schema.derive(), "write schema.derive() to bninspect/reports/report.schema.json"


def test_the_schema_refuses_what_is_no_report(validator: jsonschema.Draft202012Validator) -> None:
    report = outcome.report("verify", [], options={}, allow_empty=True, running={})
    document = json.loads(json_document.render(report))
    for field in dataclasses.fields(Report):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            assert not validator.is_valid({key: value for key, value in document.items() if key != field.name})
    assert not validator.is_valid({**document, "summary": {**document["summary"], "exit_code": "0"}})
