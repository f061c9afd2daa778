"""The screen of `lint`: every finding with what to do about it, in the order of the layers, or that there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bninspect.records import Finding, LayerReport, ModelReport, Severity
from bninspect.reports import Looks, words
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural
from bninspect.safe_text import printable

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_INDENT = " " * 8
_TOGETHER = 3
"""Layers with the same finding that are shown one by one; more of them share a line."""


def linted(model: ModelReport, looks: Looks) -> Iterator[Line]:
    """Return the lines of one model that could be read."""
    found = [(layer, finding) for layer in model.layers for finding in layer.findings if finding.ignored is None]
    by_rule = Counter(finding.rule for _, finding in found)
    ignored = sum(finding.ignored is not None for layer in model.layers for finding in layer.findings)
    counted = _count(found) + (f", {ignored} ignored" if ignored else "")
    counted += f", {words.scope(model)}" if model.left_out else ""
    yield line((printable(model.path), "bold"), f"  {plural(len(model.layers), 'batch-norm layer')}: {counted}")
    shared: set[str] = set()
    for layer, finding in found:
        if finding.severity is Severity.NOTE and looks.verbosity < 0:
            continue
        if looks.verbosity < 1 and by_rule[finding.rule] > _TOGETHER:
            if finding.rule not in shared:
                shared.add(finding.rule)
                yield from _shown(f"{by_rule[finding.rule]} layers, first {printable(layer.name)}", finding)
        else:
            yield from _shown(printable(layer.name), finding)
    yield from unread(model)
    for note in model.notes if looks.verbosity >= 0 else ():
        yield line(("note    ", "cyan"), printable(note, 500))


def unread(model: ModelReport) -> Iterator[Line]:
    """Return one line for each place whose batch norms were not read."""
    for calls in model.unread:
        if not calls.known:
            yield line(("ERROR ", "bold magenta"), words.unread(calls))


def _shown(where: str, finding: Finding) -> Iterator[Line]:
    word = finding.severity.value
    yield line(
        (f"{word:<8}", _STYLES[finding.severity]),
        f"{finding.rule} ",
        (where, "bold"),
        f": {printable(finding.message, 500)}",
    )
    if finding.hint:
        yield line(f"{_INDENT}hint: {printable(finding.hint, 500)}")


def _count(found: list[tuple[LayerReport, Finding]]) -> str:
    counts = Counter(finding.severity for _, finding in found)
    parts = [plural(counts[severity], severity.value) for severity in Severity if counts[severity]]
    return ", ".join(parts) or "no findings"
