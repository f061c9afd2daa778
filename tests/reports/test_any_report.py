"""Whatever a report holds, every format is written, they agree on the verdicts, and names from files are inert."""

from __future__ import annotations

import re

from helpers import report_verdicts as verdicts
from helpers.any_reports import MODELS, reports
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.cli.options import FORMATS
from bninspect.records import ModelReport, Report, outcome
from bninspect.reports import REPORTS, Looks, github, html, json_document, junit, markdown
from bninspect.safe_text import printable

LOOKS = Looks()


def test_every_format_can_be_asked_for() -> None:
    assert set(FORMATS) == set(REPORTS)


@settings(max_examples=40)
@given(models=st.lists(MODELS, max_size=2))
def test_no_report_breaks_a_format(models: list[ModelReport]) -> None:
    """Not even one that contradicts itself, which a file handed to `merge` may do."""
    report = outcome.report("verify", models, options={}, allow_empty=False, running={})
    for name, render in REPORTS.items():
        text = render(report, LOOKS)
        text.encode()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text), name
        if name != "github":  # which writes commands: its own tests read them
            assert not re.search(r"^\s*::|##[a-z]*\[", text, re.MULTILINE | re.IGNORECASE), name


@settings(max_examples=100)
@given(report=reports())
def test_all_formats_agree_on_every_model(report: Report) -> None:
    expected = {printable(model.path, 500): model.status.value for model in report.models}
    # What other systems take for a command anywhere in a line is broken up, too.
    failing = {path.replace("##", r"#\x23"): status for path, status in expected.items() if status != "pass"}

    assert verdicts.of_json_lines(json_document.render_lines(report)) == verdicts.of_json(json_document.render(report))
    assert verdicts.of_junit(junit.render(report)) == expected
    assert verdicts.of_markdown(markdown.render(report)) == expected
    assert verdicts.of_html(html.render(report)) == expected
    assert verdicts.of_github(github.render(report)) == failing
    if not any(status == "empty" for status in expected.values()):
        assert verdicts.exit_code(expected) == report.summary.exit_code or not expected
