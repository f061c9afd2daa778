"""What became of every batch norm of a model in an export of it, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import LayerReport, LayerStatus, ModelReport, Severity, Status
from bninspect.reports import Looks, conversion_words
from bninspect.reports.text.lines import Line, line
from bninspect.safe_text import printable

_INDENT = " " * 6
_WORDS = {
    LayerStatus.VERIFIED: ("ok    ", "green"),
    LayerStatus.MISMATCH: ("FAIL  ", "bold red"),
    LayerStatus.UNVERIFIED: ("ERROR ", "bold magenta"),
}
_VERDICTS = {
    Status.PASS: ("PASS  ", "bold green"),
    Status.FAIL: ("FAIL  ", "bold red"),
    Status.ERROR: ("ERROR ", "bold magenta"),
    Status.EMPTY: ("EMPTY ", "bold yellow"),
}


def lines(model: ModelReport, looks: Looks, fail_on: str) -> Iterator[Line]:
    """Return the lines about the export: verdict, one line for each batch norm, causes."""
    export = model.against
    if export is None:
        return
    if looks.verbosity >= 0:
        writer = printable(export.writer) or "unknown writer"
        yield line("against ", (printable(export.path), "bold"), f"  {writer}, {export.format}")
    word, style = _VERDICTS[conversion_words.status(model, fail_on)]
    yield line((word, style), conversion_words.verdict(model))
    if not export.same:
        for finding in model.findings:
            if finding.rule == "BN410" and finding.ignored is None:
                yield line(f"{_INDENT}{printable(finding.message, 500)}")
        return
    if looks.verbosity >= 0 and (worst := conversion_words.worst(model)):
        yield line(_INDENT + worst)
    yield from _each(model.layers, looks)
    for finding in model.findings:
        if conversion_words.about_export(finding) and finding.ignored is None and finding.severity is Severity.ERROR:
            yield line(("error   ", "red"), f"{finding.rule}: {printable(finding.message, 500)}")
            yield line(f"{_INDENT}  hint: {printable(finding.hint, 500)}")
    for reason in export.open:
        yield line(("ERROR ", "bold magenta"), f"not proved: {printable(reason, 500)}")
    if looks.verbosity >= 0:
        for note in export.notes:
            yield line((f"{_INDENT}notes: ", "cyan"), printable(note, 500))
    yield line((_INDENT, ""), (conversion_words.shippable(model, fail_on), "bold"))


def _each(layers: tuple[LayerReport, ...], looks: Looks) -> Iterator[Line]:
    """Return one line for every batch norm: accounting for each of them is the point."""
    width = max(len(printable(layer.name)) for layer in layers)
    for layer in layers:
        counterpart = layer.counterpart
        if counterpart is None or (looks.verbosity < 0 and counterpart.status is LayerStatus.VERIFIED):
            continue
        word, style = _WORDS[counterpart.status]
        yield line(
            (word, style), (f"{printable(layer.name):<{width}}", "bold"), f"  {conversion_words.said(counterpart)}"
        )
        for number, reason in enumerate(conversion_words.reasons(counterpart)):
            label = (f"{_INDENT}       ", "") if number else (f"{_INDENT}cause      ", "bold")
            yield line(label, reason.replace("or ", "or  ", 1) if number else reason)
