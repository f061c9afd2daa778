"""Output formats: each one is a function from a Report to a text, and one line in `REPORTS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bninspect.lazy import later
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


Rendering = Callable[[Report, Looks], str]


def _plain(module: str, function: str = "render") -> Rendering:
    """Return a machine format: a function of the report alone, in a module that is imported when it is called."""
    render = later(f"{__name__}.{module}", function)
    return lambda report, _looks: str(render(report))


REPORTS: Mapping[str, Rendering] = MappingProxyType(
    {
        "text": later(f"{__name__}.text.verify", "render"),
        "json": _plain("json_document"),
        "jsonl": _plain("json_document", "render_lines"),
        "junit": _plain("junit"),
        "markdown": _plain("markdown"),
        "github": _plain("github"),
        "html": _plain("html"),
        "sarif": _plain("sarif"),
        "intoto": _plain("intoto"),
    }
)

show_in_notebooks(ModelReport, later(f"{__name__}.html.notebook", "of_model"))
show_in_notebooks(Report, later(f"{__name__}.html.notebook", "of_report"))
