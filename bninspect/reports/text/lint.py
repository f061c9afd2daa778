"""The screen of `lint`: every finding with what to do about it, in the order of the layers, or that there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bninspect.records import Finding, LayerReport, ModelReport, Severity
from bninspect.reports import Looks, words
from bninspect.reports.text import finding_lines
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural
from bninspect.safe_text import printable


def linted(model: ModelReport, looks: Looks) -> Iterator[Line]:
    """Return the lines of one model that could be read."""
    found = [(layer, finding) for layer in model.layers for finding in layer.findings if finding.ignored is None]
    ignored = sum(finding.ignored is not None for layer in model.layers for finding in layer.findings)
    counted = _count(found) + (f", {ignored} ignored" if ignored else "")
    counted += f", {words.scope(model)}" if model.left_out else ""
    counted += f", {words.fetched(model)}" if model.bytes_read is not None else ""
    yield line((printable(model.path), "bold"), f"  {plural(len(model.layers), 'batch-norm layer')}: {counted}")
    wanted = [pair for pair in found if pair[1].severity is not Severity.NOTE or looks.verbosity >= 0]
    yield from finding_lines.lines(wanted, looks)
    yield from unread(model)
    for note in model.notes if looks.verbosity >= 0 else ():
        yield line(("note    ", "cyan"), printable(note, 500))


def unread(model: ModelReport) -> Iterator[Line]:
    """Return one line for each place whose batch norms were not read."""
    for calls in model.unread:
        if not calls.known:
            yield line(("ERROR ", "bold magenta"), words.unread(calls))


def _count(found: list[tuple[LayerReport, Finding]]) -> str:
    counts = Counter(finding.severity for _, finding in found)
    parts = [plural(counts[severity], severity.value) for severity in Severity if counts[severity]]
    return ", ".join(parts) or "no findings"
