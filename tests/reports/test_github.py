"""Workflow commands as the runner of GitHub takes them apart."""

from __future__ import annotations

import re
from dataclasses import replace

from helpers.any_reports import reports
from helpers.layers import layer
from hypothesis import given, settings

from bninspect.errors import DamagedFile
from bninspect.inspection.description import describe
from bninspect.records import Finding, LayerStatus, ModelReport, Report, Severity, Status, outcome
from bninspect.reports import github


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Return command, properties and message of each line that the runner takes for a command."""
    found = []
    for line in text.splitlines():
        if not line.lstrip().startswith("::"):
            continue
        match = re.fullmatch(r"::([a-z]+) (.*?)::(.*)", line)
        assert match, line
        properties = dict(pair.split("=", 1) for pair in match[2].split(","))
        found.append((match[1], {name: unescaped(value) for name, value in properties.items()}, unescaped(match[3])))
    return found


def unescaped(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def model(path: str, status: Status, *findings: Finding, layers: int = 1) -> ModelReport:
    found = tuple(
        replace(describe(layer(f"bn_{number}"), findings), status=LayerStatus.VERIFIED) for number in range(layers)
    )
    return ModelReport(path, None, 9, "keras-h5", "Keras 3", status, "keras 3", layers=found)


def report(*models: ModelReport) -> Report:
    return outcome.report("verify", models, options={}, allow_empty=False, running={})


def test_one_error_for_a_model_that_fails_and_no_word_of_one_that_passes() -> None:
    bad = Finding("BN102", Severity.ERROR, "moving_variance is negative in 1 channel", {}, "recompute it")
    broken = outcome.broken("a,b:c%.h5", DamagedFile("truncated: 12%0A", why="12 of 400 bytes", hint="copy it again"))
    text = github.render(report(model("good.h5", Status.PASS), model("bad.h5", Status.FAIL, bad, layers=2), broken))
    fail, error = commands(text)
    assert fail[:2] == ("error", {"file": "bad.h5", "title": "bninspect verify: fail"})
    assert fail[2].splitlines()[1:] == [
        "bn_0: BN102 moving_variance is negative in 1 channel",
        "bn_1: BN102 moving_variance is negative in 1 channel",
    ]
    assert error == (
        "error",
        {"file": "a,b:c%.h5", "title": "bninspect verify: error"},
        "truncated: 12%0A\nwhy: 12 of 400 bytes\nhint: copy it again",
    )
    assert text.splitlines()[-1].startswith("3 models: 1 pass, 1 fail, 1 error; 3 batch-norm layers: 3 verified;")


def test_findings_that_do_not_fail_are_warnings_and_notices_one_for_each_rule() -> None:
    warning = Finding("BN111", Severity.WARNING, "never updated", {}, "train it")
    note = Finding("BN113", Severity.NOTE, "variance below epsilon")
    ignored = Finding("BN114", Severity.NOTE, "few updates", ignored="--ignore")
    found = commands(github.render(report(model("m.h5", Status.PASS, warning, note, ignored, layers=3))))
    assert [(command, properties["title"], message.splitlines()) for command, properties, message in found] == [
        ("warning", "bninspect: BN111", ["bn_0 and 2 other layers: never updated", "hint: train it"]),
        ("notice", "bninspect: BN113", ["bn_0 and 2 other layers: variance below epsilon"]),
    ]


def test_no_more_than_github_draws_except_for_errors() -> None:
    notes = [Finding(f"BN{number}", Severity.NOTE, "x") for number in range(40)]
    found = commands(github.render(report(*[model(f"{n}.h5", Status.FAIL, *notes) for n in range(15)])))
    assert [command for command, _, _ in found].count("error") == 15
    notices = [message for command, _, message in found if command == "notice"]
    assert len(notices) == 10
    assert notices[-1] == f"{15 * 40 - 9} further notices in the report"


def test_many_reasons_are_cut_short() -> None:
    bad = [Finding(f"BN{number}", Severity.ERROR, "wrong") for number in range(20)]
    ((_, _, message),) = commands(github.render(report(model("m.h5", Status.FAIL, *bad))))
    assert message.splitlines()[-1] == "and 13 more reasons"
    assert len(message.splitlines()) == 9


@settings(max_examples=50)
@given(report=reports())
def test_nothing_in_a_report_becomes_a_command(report: Report) -> None:
    text = github.render(report)
    assert {name for name, _, _ in commands(text)} <= {"error", "warning", "notice"}
    for name, properties, _ in commands(text):
        assert set(properties) <= {"file", "title"}, name
    # Older runners take `##[` and Azure Pipelines `##vso[` for a command wherever it stands.
    assert "##" not in text
    *_, last = text.splitlines()
    assert not last.startswith("::")
