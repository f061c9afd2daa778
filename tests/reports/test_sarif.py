"""SARIF: what code scanning shows is what the report holds, and a result is the same one from run to run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers.any_reports import reports
from hypothesis import given

from bninspect.records import LayerStatus, Report, outcome
from bninspect.reports import sarif


def _run(report: Report) -> dict[str, Any]:
    log = json.loads(sarif.render(report))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert isinstance(run, dict)
    return run


@given(reports())
def test_every_finding_and_every_layer_that_is_not_verified_is_a_result(report: Report) -> None:
    results = _run(report)["results"]
    findings = sum(len(model.findings) + sum(len(layer.findings) for layer in model.layers) for model in report.models)
    layers = [layer for model in report.models for layer in model.layers]
    unverified = sum(layer.status is LayerStatus.UNVERIFIED for layer in layers)
    errors = sum(model.error is not None for model in report.models)
    unread = sum(len(model.unread) for model in report.models)
    assert len(results) == findings + unverified + errors + unread


@given(reports())
def test_any_report_is_ascii_and_names_files_that_it_lists(report: Report) -> None:
    text = sarif.render(report)
    assert text.isascii()
    run = _run(report)
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert run["artifacts"][place["index"]]["location"]["uri"] == place["uri"]
        assert re.fullmatch(r"[A-Za-z0-9/._~%:-]*", place["uri"])
        assert result["level"] in {"none", "note", "warning", "error"}
        assert result["message"]["text"]
    assert run["invocations"][0]["exitCode"] == report.summary.exit_code


@given(reports())
def test_what_is_ignored_is_suppressed_with_its_reason(report: Report) -> None:
    ignored = [
        finding
        for model in report.models
        for finding in (*model.findings, *(each for layer in model.layers for each in layer.findings))
        if finding.ignored is not None
    ]
    assert sum("suppressions" in result for result in _run(report)["results"]) == len(ignored)


@given(reports())
def test_a_fingerprint_does_not_depend_on_words_and_numbers(report: Report) -> None:
    def reworded(model: Any) -> Any:
        layers = tuple(
            replace(layer, findings=tuple(replace(found, message="other", hint="") for found in layer.findings))
            for layer in model.layers
        )
        return replace(model, layers=layers)

    other = replace(report, models=tuple(map(reworded, report.models)))
    prints = [[result["partialFingerprints"] for result in _run(each)["results"]] for each in (report, other)]
    assert prints[0] == prints[1]


def test_rules_have_help_and_a_page() -> None:
    from bninspect.reports import manual

    rules = _run(outcome.report("verify", (), options={}, allow_empty=False, running={}))["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} == {*manual.pages(), sarif.UNVERIFIED, sarif.UNREADABLE, sarif.UNREAD}
    assert all(rule["help"]["text"] and rule["helpUri"].startswith("https://") for rule in rules)


def test_links_of_rules_lead_to_headings_of_the_page() -> None:
    """GitHub makes an anchor of a heading: in small letters, without punctuation, with hyphens for spaces.

    Source: docs.github.com, "Basic writing and formatting syntax", Section links.
    """
    repository = Path(__file__).parents[2]
    rules = _run(outcome.report("verify", (), options={}, allow_empty=False, running={}))["tool"]["driver"]["rules"]
    for rule in rules:
        path, _, anchor = rule["helpUri"].partition("/blob/main/")[2].partition("#")
        lines = (repository / path).read_text(encoding="utf-8").splitlines()
        headings = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
        anchors = ["".join(c for c in text if c.isalnum() or c in "-_ ").replace(" ", "-") for text in headings]
        assert not anchor or anchor in anchors, rule["helpUri"]
        assert anchor or not rule["id"].startswith("BN")
