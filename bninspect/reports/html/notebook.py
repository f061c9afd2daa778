"""A report as a notebook shows it: a fragment of HTML with neither style sheet nor script, failures first.

The notebook's own fonts, colours and tables are used; a word says what a colour says too.
"""

from __future__ import annotations

from collections.abc import Iterable

from bninspect.records import Finding, LayerReport, ModelReport, Report, Status
from bninspect.reports import counts, words
from bninspect.reports.html.element import Child, Markup, code, element, joined, table
from bninspect.safe_text import printable

_MOST_MODELS = 20
_MOST_LAYERS = 100
_MOST_FAILING = 5
_COLOURS = {Status.PASS: "#228833", Status.FAIL: "#cc3311", Status.ERROR: "#aa3377", Status.EMPTY: "#997700"}
_FIRST = (Status.FAIL, Status.ERROR, Status.EMPTY, Status.PASS)


def of_report(report: Report) -> str:
    """Return a fragment about all models of a report."""
    models = sorted(report.models, key=lambda model: _FIRST.index(model.status))
    rest = len(models) - _MOST_MODELS
    return joined(
        element("p", words.summary(report), f". Exit code {report.summary.exit_code}."),
        [_model(model, counts.fail_on(report)) for model in models[:_MOST_MODELS]],
        element("p", f"{words.plural(rest, 'model')} more: see the JSON report.") if rest > 0 else None,
    )


def of_model(model: ModelReport) -> str:
    """Return a fragment about one model."""
    return _model(model, "error")


def _model(model: ModelReport, threshold: str) -> Markup:
    failing = [layer for layer in model.layers if counts.layer_counts(layer, model, threshold)]
    word = element("b", model.status.value.upper(), style=f"color: {_COLOURS[model.status]}")
    first, *others = words.verdicts(model)
    return element(
        "div",
        element("p", word, " ", code(model.path, 500), f": {first}"),
        [element("p", line) for line in others],
        _items(words.reasons_of(model.error) if model.error else ()),
        _items(_said(finding) for finding in model.findings if counts.finding_counts(finding, model, threshold)),
        _items(words.unverified(model)),
        [_failing(layer, model, threshold) for layer in failing[:_MOST_FAILING]],
        _items([*words.qualifications(model), *map(words.message, model.notes)]),
        _layers(model, failing),
    )


def _failing(layer: LayerReport, model: ModelReport, threshold: str) -> Markup | None:
    """Return what counts against a layer, with the arithmetic of its worst element."""
    worst, findings = counts.reasons(layer, model, threshold)
    lines = []
    if worst is not None:
        lines.append(words.measured(worst))
        if worst.worst is not None:
            lines.append(f"by hand {words.by_hand(worst.worst)}, runtime {words.number(worst.worst.actual)}")
    if layer.explanation is not None:
        lines += [f"cause: {cause}" for cause in words.causes(layer.explanation)]
    lines += map(_said, findings)
    return element("div", code(layer.name), _items(lines)) if lines else None


def _said(finding: Finding) -> str:
    hint = f" ({words.message(finding.hint)})" if finding.hint else ""
    return f"{finding.rule} {finding.severity.value}: {words.message(finding.message)}{hint}"


def _layers(model: ModelReport, failing: list[LayerReport]) -> Markup | None:
    if not model.layers:
        return None
    known = {id(layer) for layer in failing}
    ordered = [*failing, *(layer for layer in model.layers if id(layer) not in known)]
    rest = len(ordered) - _MOST_LAYERS
    return element(
        "details",
        element("summary", words.plural(len(ordered), "batch-norm layer")),
        table(
            ("layer", "status", "channels", "epsilon", "worst error", "findings"),
            [_row(layer) for layer in ordered[:_MOST_LAYERS]],
            caption=f"Batch-norm layers of {printable(model.path, 500)}",
        ),
        element("p", f"{words.plural(rest, 'layer')} more: see the JSON report.") if rest > 0 else None,
    )


def _row(layer: LayerReport) -> Iterable[Child]:
    worst = counts.furthest(layer)
    return (
        code(layer.name),
        layer.status.value if layer.status else "read",
        f"{layer.channels:,}",
        "unknown" if layer.epsilon is None else f"{layer.epsilon:g}",
        words.ratio(worst) if worst else "-",
        words.rules(layer) or "-",
    )


def _items(lines: Iterable[str]) -> Markup | None:
    lines = list(lines)
    return element("ul", [element("li", line) for line in lines]) if lines else None
