"""The screen of `compare`: what changed in each model, worst first."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import ModelReport, Severity
from bninspect.reports import Looks
from bninspect.reports.text import finding_lines
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural
from bninspect.safe_text import printable

_INDENT = " " * 8


def compared(model: ModelReport, looks: Looks) -> Iterator[Line]:
    """Return the lines of one model: its changes, and how many layers stayed as they were."""
    changed = [(layer, finding) for layer in model.layers for finding in layer.findings]
    changed.sort(key=lambda pair: list(Severity).index(pair[1].severity))
    if looks.verbosity < 1 and not changed and not model.findings:
        return
    same = sum(not layer.findings for layer in model.layers)
    yield line(
        (printable(model.path), "bold"),
        f"  {plural(same, 'layer')} as before, {plural(len(changed) + len(model.findings), 'change')}",
    )
    for finding in model.findings:
        yield line(
            (f"{finding.severity:<8}", finding_lines.STYLES[finding.severity]),
            f"{finding.rule} {printable(finding.message, 500)}",
        )
        if finding.hint:
            yield line(f"{_INDENT}hint: {printable(finding.hint, 500)}")
    yield from finding_lines.lines(
        [pair for pair in changed if looks.verbosity >= 0 or pair[1].severity is Severity.ERROR], looks
    )
    if looks.verbosity >= 1:
        for layer in model.layers:
            if not layer.findings:
                yield line(("same    ", "dim"), printable(layer.name))
