"""Output formats: each one is a function from a Report to a text, and one line in `REPORTS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bninspect.records import ModelReport, Report
from bninspect.records.reported import show_in_notebooks


@dataclass(frozen=True)
class Looks:
    """How a report is shown; machine formats ignore it."""

    colour: bool = False
    width: int | None = None
    """Columns of the terminal; None where rows may be as long as they are."""
    verbosity: int = 0
    """-1: verdict and failures only; 1 and more: every layer."""
    wide: bool = False
    """Whether columns stay although the terminal is too narrow for them."""
    detailed: bool = False
    """Whether layers are shown with the distribution of their parameters."""
    unwritten: bool = False
    """Whether a file that was asked for could not be written: the command then ends with 3, whatever it found."""


def _text(report: Report, looks: Looks) -> str:
    from bninspect.reports.text import verify

    return verify.render(report, looks)


def _json(report: Report, _looks: Looks) -> str:
    from bninspect.reports import json_document

    return json_document.render(report)


def _json_lines(report: Report, _looks: Looks) -> str:
    from bninspect.reports import json_document

    return json_document.render_lines(report)


def _junit(report: Report, _looks: Looks) -> str:
    from bninspect.reports import junit

    return junit.render(report)


def _markdown(report: Report, _looks: Looks) -> str:
    from bninspect.reports import markdown

    return markdown.render(report)


def _github(report: Report, _looks: Looks) -> str:
    from bninspect.reports import github

    return github.render(report)


def _sarif(report: Report, _looks: Looks) -> str:
    from bninspect.reports import sarif

    return sarif.render(report)


def _intoto(report: Report, _looks: Looks) -> str:
    from bninspect.reports import intoto

    return intoto.render(report)


def _html(report: Report, _looks: Looks) -> str:
    from bninspect.reports import html

    return html.render(report)


REPORTS: Mapping[str, Callable[[Report, Looks], str]] = MappingProxyType(
    {
        "text": _text,
        "json": _json,
        "jsonl": _json_lines,
        "junit": _junit,
        "markdown": _markdown,
        "github": _github,
        "html": _html,
        "sarif": _sarif,
        "intoto": _intoto,
    }
)


def _model_in_a_notebook(model: ModelReport) -> str:
    from bninspect.reports.html import notebook

    return notebook.of_model(model)


def _report_in_a_notebook(report: Report) -> str:
    from bninspect.reports.html import notebook

    return notebook.of_report(report)


show_in_notebooks(ModelReport, _model_in_a_notebook)
show_in_notebooks(Report, _report_in_a_notebook)
