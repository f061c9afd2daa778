"""An in-toto statement about a run: what was tested, how, and how it came out. It is not signed: who signs it vouches.

Sources: in-toto Attestation Framework, Statement v1 (https://in-toto.io/Statement/v1), and its predicate for results
of tests (https://in-toto.io/attestation/test-result/v0.1). Subjects are the model, the export that it was held
against, and the report as JSON, each by its SHA-256. What a verdict rests on, and the options, are annotations of the
configuration, where parsers of the predicate find them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from bninspect.records import LayerStatus, ModelReport, Report, codec
from bninspect.reports import counts, json_document
from bninspect.safe_text import printable

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
REPORT, MODEL, EXPORT = "report", "model", "export"
"""What a subject is, as its annotation `role` says."""


def render(report: Report) -> str:
    """Return the statement about a report; the report's own digest is that of `json_document.render`."""
    digest = hashlib.sha256(json_document.render(report).encode()).hexdigest()
    return json_document.inert(json.dumps(statement(report, digest), indent=2, allow_nan=False)) + "\n"


def statement(report: Report, digest: str) -> dict[str, Any]:
    """Return the statement about a report whose JSON has this SHA-256, in hexadecimal digits."""
    return {
        "_type": STATEMENT,
        "subject": [_subject("bninspect-report.json", digest, REPORT), *_subjects(report)],
        "predicateType": PREDICATE,
        "predicate": {
            "result": "PASSED" if report.summary.exit_code == 0 else "FAILED",
            "configuration": [_configuration(report)],
            "passedTests": list(_tests(report, passed=True)),
            "failedTests": list(_tests(report, passed=False)),
        },
    }


def _subjects(report: Report) -> Iterator[dict[str, Any]]:
    for model in report.models:
        if model.sha256:
            yield _subject(model.path, model.sha256, MODEL)
        if model.against is not None and model.against.sha256:
            yield _subject(model.against.path, model.against.sha256, EXPORT)


def _subject(name: str, digest: str, role: str) -> dict[str, Any]:
    return {"name": printable(name, 1000), "digest": {"sha256": printable(digest)}, "annotations": {"role": role}}


def _configuration(report: Report) -> Any:
    version = report.tool.get("version", "")
    return _inert(
        {
            "name": "bninspect",
            "uri": f"pkg:pypi/bninspect@{version}",
            "annotations": {
                "version": version,
                "command": report.command,
                "exit_code": report.summary.exit_code,
                "options": {name: codec.encode(option.value) for name, option in report.options.items()},
                "models": [_grade(model) for model in report.models],
            },
        }
    )


def _grade(model: ModelReport) -> dict[str, Any]:
    """Return the verdict on a model and what it rests on. A model without a digest is named, but is not a subject."""
    return {
        "name": printable(model.path, 1000),
        "verdict": model.status.value,
        "evidence": model.evidence.value if model.evidence else None,
        "runtime": model.runtime,
        "is_subject": model.sha256 is not None,
    }


def _inert(value: Any) -> Any:
    """Return a value of JSON with its texts printable: parsers refuse lone surrogates, which names may hold."""
    if isinstance(value, str):
        return printable(value, 1000)
    if isinstance(value, dict):
        return {printable(name): _inert(inner) for name, inner in value.items()}
    return [_inert(inner) for inner in value] if isinstance(value, list) else value


def _tests(report: Report, *, passed: bool) -> Iterator[str]:
    """Yield the layers that were verified, or the layers and models that count against the run."""
    threshold = counts.fail_on(report)
    for model in report.models:
        path = printable(model.path, 1000)
        failing = [layer for layer in model.layers if counts.layer_counts(layer, model, threshold)]
        if not passed and model.status.value != "pass" and not failing:
            yield path
        wrong = {id(layer) for layer in failing}
        for layer in model.layers:
            if (id(layer) in wrong) is not passed and (layer.status is LayerStatus.VERIFIED or not passed):
                yield f"{path}: {printable(layer.name, 1000)}"
