"""What became of every batch norm of a model in an export of it, for people at a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from bninspect.names import printable
from bninspect.records import (
    Comparison,
    Counterpart,
    Explanation,
    Export,
    LayerReport,
    LayerStatus,
    ModelReport,
    Severity,
    Status,
)
from bninspect.reports import Looks
from bninspect.reports.lines import Line, line, plural

_INDENT = " " * 6
_RULES = ("BN401", "BN402", "BN403", "BN404", "BN410", "BN411")
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


def alone(model: ModelReport) -> ModelReport:
    """Return the report of a model as if it had not been held against anything."""
    if model.against is None:
        return model
    layers = tuple(_alone(layer) for layer in model.layers)
    statuses = {layer.status for layer in layers}
    status = Status.PASS
    if LayerStatus.UNVERIFIED in statuses:
        status = Status.ERROR
    elif LayerStatus.MISMATCH in statuses:
        status = Status.FAIL
    findings = tuple(one for one in model.findings if one.rule not in _RULES)
    return replace(model, layers=layers, status=status, findings=findings, against=None)


def _alone(layer: LayerReport) -> LayerReport:
    if layer.counterpart is None:
        return layer
    findings = tuple(one for one in layer.findings if one.rule not in _RULES)
    own = layer.counterpart.own
    reason = layer.reason if own is LayerStatus.UNVERIFIED else ""
    return replace(layer, status=own, reason=reason, findings=findings, counterpart=None)


def lines(model: ModelReport, looks: Looks) -> Iterator[Line]:
    """Return the lines about the export: verdict, one line for each batch norm, causes."""
    export = model.against
    if export is None:
        return
    if looks.verbosity >= 0:
        writer = printable(export.writer) or "unknown writer"
        yield line("against ", (printable(export.path), "bold"), f"  {writer}, {export.format}")
    yield _verdict(model, export)
    if not export.same:
        for finding in model.findings:
            if finding.rule == "BN410" and finding.ignored is None:
                yield line(f"{_INDENT}{printable(finding.message, 500)}")
        return
    if looks.verbosity >= 0:
        yield from _worst(model, export)
    yield from _each(model.layers, looks)
    for finding in model.findings:
        if finding.rule in _RULES and finding.ignored is None and finding.severity is Severity.ERROR:
            yield line(("error   ", "red"), f"{finding.rule}: {printable(finding.message, 500)}")
            yield line(f"{_INDENT}  hint: {printable(finding.hint, 500)}")
    if looks.verbosity >= 0:
        for note in export.notes:
            yield line((f"{_INDENT}notes: ", "cyan"), printable(note, 500))


def _verdict(model: ModelReport, export: Export) -> Line:
    word, style = _VERDICTS[model.status]
    found = [layer.counterpart for layer in model.layers if layer.counterpart is not None]
    right = [one for one in found if one.status is LayerStatus.VERIFIED]
    kinds = Counter(one.how for one in right)
    how = ", ".join(f"{number} {_shown(kind, number)}" for kind, number in kinds.items())
    ran = f" in {printable(export.runtime)}" if export.runtime else ", which was not run"
    text = f"{len(right)} of {len(model.layers)} batch norms are in the export with the right numbers"
    return line((word, style), f"{text}{': ' + how if how else ''}{ran}")


def _shown(kind: str, number: int) -> str:
    if kind == "batch norm":
        return "as a batch norm" if number == 1 else "as batch norms"
    return {"folded": "folded and matched", "scale and shift": "as scale and shift"}.get(kind, f"{kind} and matched")


def _worst(model: ModelReport, export: Export) -> Iterator[Line]:
    counterparts = {layer.name: layer.counterpart for layer in model.layers if layer.counterpart is not None}
    numbers = [
        (one.ratio, name)
        for name, counterpart in counterparts.items()
        for one in counterpart.comparisons
        if one.observed != "output" and one.ratio is not None and counterpart.status is LayerStatus.VERIFIED
    ]
    parts = []
    if numbers:
        ratio, name = max(numbers)
        parts.append(f"weights and biases within {ratio:.2f} of the folded bound, worst at {printable(name)}")
    ends = [one.ratio for one in export.outputs if one.ratio is not None]
    if ends:
        parts.append(f"the model's output within {max(ends):.2g} of what rounding allows")
    if parts:
        yield line(_INDENT + "; ".join(parts))


def _each(layers: tuple[LayerReport, ...], looks: Looks) -> Iterator[Line]:
    """Return one line for every batch norm: accounting for each of them is the point."""
    width = max(len(printable(layer.name)) for layer in layers)
    for layer in layers:
        counterpart = layer.counterpart
        if counterpart is None or (looks.verbosity < 0 and counterpart.status is LayerStatus.VERIFIED):
            continue
        word, style = _WORDS[counterpart.status]
        yield line((word, style), (f"{printable(layer.name):<{width}}", "bold"), f"  {_said(counterpart)}")
        if counterpart.status is LayerStatus.MISMATCH and not counterpart.inherited:
            yield from _reasons(counterpart)


def _said(counterpart: Counterpart) -> str:
    place = printable(counterpart.place)
    where = {"folded": f"folded into {place}", "folded forward": f"folded into {place} behind it"}.get(
        counterpart.how, place
    )
    ratios = ", ".join(f"{one.observed} {_ratio(one)}" for one in counterpart.comparisons)
    if counterpart.status is LayerStatus.UNVERIFIED:
        return f"unverified: {printable(counterpart.sentence, 500)}"
    if counterpart.inherited:
        return f"inherited from {printable(counterpart.inherited)}: {ratios}"
    return f"{where}  {ratios}".strip()


def _ratio(comparison: Comparison) -> str:
    return "not finite" if comparison.ratio is None else f"{comparison.ratio:.2g}"


def _reasons(counterpart: Counterpart) -> Iterator[Line]:
    explanation = counterpart.explanation
    label = (f"{_INDENT}cause      ", "bold")
    if explanation is None or not explanation.causes:
        yield line(label, printable(_unexplained(counterpart, explanation), 500))
        return
    first, *others = explanation.causes
    yield line(label, printable(first.sentence, 500))
    for other in others[:4]:
        yield line(f"{_INDENT}       or  ", printable(other.sentence, 500))
    if len(others) > 4:
        yield line(f"{_INDENT}       or  {plural(len(others) - 4, 'other')} that fit as well (--json lists them)")


def _unexplained(counterpart: Counterpart, explanation: Explanation | None) -> str:
    if explanation is None or explanation.tried == 0:
        return counterpart.sentence
    return explanation.sentence
