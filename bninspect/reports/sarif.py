"""SARIF 2.1.0, which code scanning takes: a result for each finding, each unverified layer, each model in error.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0. What GitHub makes of it:
https://docs.github.com/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning.
A model is binary, so that a result has no line; the layer is its logical location. Fingerprints are of model, export,
layer and rule alone: a result stays the same one while its numbers change, and its message may be reworded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from bninspect.records import Finding, LayerReport, LayerStatus, ModelReport, Report, Severity
from bninspect.reports import json_document, manual, words
from bninspect.safe_text import printable

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_HOME = "https://github.com/bninspect/bninspect"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
UNVERIFIED, UNREADABLE, UNREAD = "unverified", "error", "unread"
_OWN = {
    UNVERIFIED: "A layer that nothing vouches for. What was not compared is never called a pass.",
    UNREADABLE: "A model that could not be checked.",
    UNREAD: "Calls of batch norm that the reader saw and could not read.",
}
"""Results that no rule of the manual describes."""


def render(report: Report) -> str:
    """Return the report as a SARIF log of one run; pure ASCII."""
    code = report.summary.exit_code
    run = {
        "tool": {"driver": _driver(report)},
        "columnKind": "utf16CodeUnits",
        "invocations": [{"executionSuccessful": code in {0, 1}, "exitCode": code}],
        "artifacts": [_artifact(model) for model in report.models],
        "results": [result for place, model in enumerate(report.models) for result in _results(model, place)],
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json_document.inert(json.dumps(log, indent=1, allow_nan=False)) + "\n"


def _driver(report: Report) -> dict[str, Any]:
    return {
        "name": "bninspect",
        "semanticVersion": report.tool["version"],
        "informationUri": _HOME,
        "rules": [*(_rule(page) for page in manual.pages().values()), *map(_own_rule, _OWN)],
    }


def _rule(page: manual.Page) -> dict[str, Any]:
    paragraphs = [printable(paragraph, 4000) for paragraph in page.paragraphs]
    return {
        "id": page.code,
        "shortDescription": {"text": f"{page.title[:1].upper()}{page.title[1:]}."},
        "help": {"text": "\n\n".join(paragraphs)},
        "helpUri": f"{_HOME}/blob/main/docs/rules.md#{page.anchor}",
    }


def _own_rule(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "shortDescription": {"text": _OWN[name]},
        "help": {"text": _OWN[name]},
        "helpUri": f"{_HOME}/blob/main/docs/explanation/evidence.md",
    }


def _artifact(model: ModelReport) -> dict[str, Any]:
    artifact: dict[str, Any] = {"location": {"uri": _uri(model.path)}, "length": model.bytes}
    if model.sha256:
        artifact["hashes"] = {"sha-256": model.sha256}
    return artifact


def _results(model: ModelReport, place: int) -> Iterator[dict[str, Any]]:
    if model.error:
        hint = f" {words.message(model.error.hint)}" if model.error.hint else ""
        said = f"{words.message(model.error.what)}: {words.message(model.error.why)}.{hint}"
        yield _result(UNREADABLE, "error", said, model, place)
    for finding in model.findings:
        yield _found(finding, model, place)
    for calls in model.unread:
        yield _result(UNREAD, "error", words.unread(calls), model, place)
    for layer in model.layers:
        if layer.status is LayerStatus.UNVERIFIED:
            level = "note" if layer.known else "error"
            reason = words.message(layer.reason or "it was not compared")
            yield _result(UNVERIFIED, level, f"{printable(layer.name)} is unverified: {reason}", model, place, layer)
        for finding in layer.findings:
            yield _found(finding, model, place, layer)


def _found(finding: Finding, model: ModelReport, place: int, layer: LayerReport | None = None) -> dict[str, Any]:
    where = f"{printable(layer.name)}: " if layer else ""
    hint = f" ({words.message(finding.hint)})" if finding.hint else ""
    # Code scanning refuses an empty message, which the finding of a report read back may have.
    said = f"{where}{words.message(finding.message) or 'a finding without a message'}{hint}"
    result = _result(finding.rule, _LEVELS[finding.severity], said, model, place, layer)
    if finding.ignored is not None:
        result["suppressions"] = [{"kind": "external", "justification": words.message(finding.ignored)}]
    return result


def _result(
    rule: str, level: str, said: str, model: ModelReport, place: int, layer: LayerReport | None = None
) -> dict[str, Any]:
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(model.path), "index": place}}}
    if layer:
        location["logicalLocations"] = [{"fullyQualifiedName": printable(layer.name, 1000), "kind": "member"}]
    # Of several exports of one model each has results of its own.
    export = [model.against.path] if model.against is not None else []
    parts = [model.path, *export, layer.name if layer else "", rule]
    found = {
        "ruleId": printable(rule),
        "level": level,
        "message": {"text": f"against {printable(export[0])}: {said}" if export else said},
        "locations": [location],
        "partialFingerprints": {"modelLayerRule/v1": _fingerprint(parts)},
    }
    if export:
        found["relatedLocations"] = [
            {"physicalLocation": {"artifactLocation": {"uri": _uri(export[0])}}, "message": {"text": "the export"}}
        ]
    return found


def _fingerprint(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode("ascii")).hexdigest()


def _uri(path: str) -> str:
    """Return a path as a relative or absolute URI reference."""
    encoded = path.encode("utf-8", "surrogatepass")
    return quote(encoded.replace(b"\\", b"/")).replace("%3A//", "://", 1)
