"""JSON Lines: what a run had to tell is there, wherever it was cut."""

from __future__ import annotations

import json

import pytest
from helpers.any_reports import reports
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.records import Report
from bninspect.reports import json_document


@settings(max_examples=60)
@given(report=reports())
def test_lines_put_together_are_the_document(report: Report) -> None:
    text = json_document.render_lines(report)
    assert text.isascii()
    first, *lines, last = [json.loads(line) for line in text.splitlines()]
    together = {**first, "models": [line["model"] for line in lines], **last}
    assert together == json.loads(json_document.render(report))
    assert json_document.parse_lines(text) == report


@settings(max_examples=60)
@given(report=reports(), share=st.floats(0, 1))
def test_a_run_that_was_cut_short_has_told_of_the_models_before(report: Report, share: float) -> None:
    text = json_document.render_lines(report)
    cut = text[: int(len(text) * share)]
    known = json_document.models_in_lines(cut)
    assert known == report.models[: len(known)]
    assert len(known) >= cut.count("\n") - 1 - (cut == text)


def test_a_run_without_an_end_is_no_report() -> None:
    with pytest.raises(ValueError, match="Report"):
        json_document.parse_lines('{"command":"verify"}\n')
    with pytest.raises(ValueError, match="not an object"):
        json_document.parse_lines("[]\n")
    with pytest.raises(ValueError, match="not a Report"):
        json_document.parse_lines('{"model":{}}\n')


def test_what_is_no_line_of_ours_is_passed_over() -> None:
    assert json_document.models_in_lines('null\n7\n"model"\n{"model":{}}\n{"other":1}\nnot json\n') == ()
