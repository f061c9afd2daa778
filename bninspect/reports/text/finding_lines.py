"""Findings on a screen: what several layers share is said once, unless every layer is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from bninspect.records import Finding, LayerReport, Severity
from bninspect.reports import Looks
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import some
from bninspect.safe_text import printable

STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_INDENT = " " * 8
_TOGETHER = 3
"""Layers with findings of one rule that are shown one by one if their messages differ; more share a line."""

Found = tuple[LayerReport, Finding]


def lines(found: Iterable[Found], looks: Looks) -> Iterator[Line]:
    """Return the lines of findings, each with its hint, in the order of the layers."""
    for layers, finding in groups(list(found), looks):
        word = finding.severity.value
        yield line(
            (f"{word:<8}", STYLES[finding.severity]),
            f"{finding.rule} ",
            (some(layers), "bold"),
            f": {printable(finding.message, 500)}",
        )
        if finding.hint:
            yield line(f"{_INDENT}hint: {printable(finding.hint, 500)}")


def groups(found: list[Found], looks: Looks) -> list[tuple[list[LayerReport], Finding]]:
    """Return the first finding of each group, and the layers that have it."""
    if looks.verbosity >= 1:
        return [([layer], finding) for layer, finding in found]
    many = {rule for rule, count in Counter(finding.rule for _, finding in found).items() if count > _TOGETHER}
    grouped: dict[tuple[str, str], tuple[list[LayerReport], Finding]] = {}
    for layer, finding in found:
        key = (finding.rule, "" if finding.rule in many else finding.message)
        grouped.setdefault(key, ([], finding))[0].append(layer)
    return list(grouped.values())
