"""The report for people at a terminal, or in the log of a pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bninspect.records import (
    Comparison,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Report,
    Severity,
    Status,
)
from bninspect.reports import Looks, conversion_words, words
from bninspect.reports import counts as counting
from bninspect.reports.text import conversion, drift
from bninspect.reports.text.inspect import layer_table, parameter_details
from bninspect.reports.text.lines import Line, line, shown
from bninspect.reports.text.lint import linted, unread
from bninspect.reports.text.mismatch import INDENT, mismatch
from bninspect.reports.words import plural
from bninspect.safe_text import printable

_SHOWN_AS_MISMATCH = ("BN202", "BN301", "BN311")
_SAID_OF_DATA = ("BN501", "BN502")
_VERDICTS = {
    Status.PASS: ("PASS", "bold green"),
    Status.FAIL: ("FAIL", "bold red"),
    Status.ERROR: ("ERROR", "bold magenta"),
    Status.EMPTY: ("EMPTY", "bold yellow"),
}
_SEVERITIES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def render(report: Report, looks: Looks) -> str:
    """Return the report as text, with colours if `looks` wants them."""
    rows: list[Line] = []
    threshold = counting.fail_on(report)
    for model in report.models:
        if model.error:
            rows.extend(_broken(model))
        elif report.command == "verify":
            rows.extend(_verified(conversion_words.alone(model, threshold), looks, _device(report)))
            rows.extend(conversion.lines(model, looks, threshold))
        elif report.command == "drift":
            rows.extend(_drifted(model, looks))
        elif report.command == "lint":
            rows.extend(linted(model, looks))
        else:
            rows.extend(_inspected(model, looks))
    if not report.models:
        rows.append(_nothing(report))
    if len(report.models) > 1 and looks.verbosity >= 0:
        rows.append(_total(report))
    return shown(rows, looks)


def _nothing(report: Report) -> Line:
    part = report.shard
    if part is not None and part.models:
        return line(f"part {part.index} of {part.count} has none of the {plural(part.models, 'model')}")
    return line(("EMPTY ", "bold yellow"), "no model was named")


def _header(model: ModelReport) -> Line:
    """Return the line that names the file, its writer, and what all its layers share."""
    channels = sum(layer.channels for layer in model.layers)
    parts = [plural(len(model.layers), "batch-norm layer"), plural(channels, "channel")]
    parts += [words.scope(model)] * bool(model.left_out)
    common = [text for text in (_shared(model, "axis"), _shared(model, "epsilon")) if text]
    return line(
        (printable(model.path), "bold"),
        f"  {printable(model.writer) or 'unknown writer'}, {printable(model.format)}, {', '.join(parts)}",
        f"; {', '.join(common)}" if common else "",
    )


def _shared(model: ModelReport, name: str) -> str:
    values = {getattr(layer, name) for layer in model.layers}
    if len(values) != 1:
        return ""
    (value,) = values
    return f"{name} {'unknown' if value is None else f'{value:g}' if isinstance(value, float) else value}"


def _broken(model: ModelReport) -> Iterator[Line]:
    assert model.error is not None  # noqa: S101 - narrows the type
    word, style = _VERDICTS[model.status]
    yield line((f"{word:<6}", style), f"{printable(model.path)}: {printable(model.error.what, 500)}")
    if model.error.why:
        yield line(f"{INDENT}why: {printable(model.error.why, 500)}")
    if model.error.hint:
        yield line(f"{INDENT}hint: {printable(model.error.hint, 500)}")


def _inspected(model: ModelReport, looks: Looks) -> Iterator[Line]:
    yield _header(model)
    yield from layer_table(model.layers, looks)
    if looks.detailed:
        for layer in model.layers:
            yield from parameter_details(layer)
    yield from unread(model)
    for layer in model.layers:
        yield from _findings(layer, looks)
        for note in layer.notes:
            yield line(f"{INDENT}{printable(layer.name)}: {printable(note, 500)}")
    yield from _notes(model)


def _device(report: Report) -> str:
    """Return what the numbers depend on besides the framework: ` (CPU, oneDNN on)`."""
    known = report.environment
    parts = [printable(str(known["device"]))] if known.get("device") else []
    if known.get("onednn") is not None:
        parts.append(f"oneDNN {'on' if known['onednn'] else 'off'}")
    return f" ({', '.join(parts)})" if parts else ""


def _verified(model: ModelReport, looks: Looks, device: str) -> Iterator[Line]:
    if looks.verbosity >= 0:
        yield _header(model)
    if not model.layers:
        word, style = _VERDICTS[model.status]
        yield line((f"{word:<6}", style), words.verdict(model))
        yield from unread(model)
        return
    statuses = Counter(layer.status for layer in model.layers)
    yield _verdict(model, statuses, looks, device)
    if looks.verbosity >= 0 and statuses[LayerStatus.VERIFIED]:
        yield from _worst_ratio(model)
    if looks.verbosity >= 0:
        yield from _kept_variances(model)
    for layer in model.layers:
        if layer.status is LayerStatus.MISMATCH and (looks.verbosity >= 1 or not layer.known):
            yield from mismatch(layer, looks)
    yield from _unverified(model)
    for layer in model.layers:
        yield from _findings(layer, looks, without=_SHOWN_AS_MISMATCH)
    if looks.verbosity >= 0:
        yield from _notes(model)
    if looks.verbosity >= 1:
        yield from _every_layer(model)
    elif looks.verbosity == 0 and statuses[LayerStatus.VERIFIED] and model.status is not Status.PASS:
        yield line(("ok    ", "green"), f"{plural(statuses[LayerStatus.VERIFIED], 'other layer')} (-v lists them)")


def _verdict(model: ModelReport, statuses: Counter[LayerStatus | None], looks: Looks, device: str) -> Line:
    word, style = _VERDICTS[model.status]
    place = f"{printable(model.path)}: " if looks.verbosity < 0 else ""
    verified = statuses[LayerStatus.VERIFIED]
    text = f"{place}{verified} of {words.total(model)} layers {words.claim(model, verified)} in "
    text += f"{printable(model.runtime or '')}{device}{words.reserve(model)}"
    return line((f"{word:<6}", style), text)


def _drifted(model: ModelReport, looks: Looks) -> Iterator[Line]:
    if looks.verbosity >= 0:
        yield _header(model)
    word, style = _VERDICTS[model.status]
    place = f"{printable(model.path)}: " if looks.verbosity < 0 else ""
    yield line((f"{word:<6}", style), f"{place}{words.verdict(model)}")
    yield from drift.lines(model, looks)
    yield from _unverified(model)
    for layer in model.layers:
        yield from _findings(layer, looks, without=_SAID_OF_DATA)
    if looks.verbosity >= 0:
        yield from _notes(model)


def _worst_ratio(model: ModelReport) -> Iterator[Line]:
    judged = [
        (comparison.ratio, layer, comparison)
        for layer in model.layers
        if layer.status is LayerStatus.VERIFIED and layer.tolerance is None
        for comparison in layer.comparisons
        if comparison.ratio is not None
    ]
    if judged:
        ratio, layer, comparison = max(judged, key=lambda one: one[0])
        elements = sum(one.elements for _, _, one in judged)
        where = f" at {printable(layer.name)}, channel {comparison.worst.channel}" if comparison.worst else ""
        yield line(f"{INDENT}worst {ratio:.2f} of the rounding bound{where}; {elements:,} values compared")


def _kept_variances(model: ModelReport) -> Iterator[Line]:
    """Say which variance a training step was seen to average: it decides what fine-tuning stores."""
    counts = Counter(layer.estimator for layer in model.layers if layer.estimator is not None)
    if counts:
        said = ", ".join(f"the {one} variance in {plural(number, 'layer')}" for one, number in counts.most_common())
        yield line(f"{INDENT}a training step averages {said}")


def _unverified(model: ModelReport) -> Iterator[Line]:
    """Return one line for each reason, however many layers share it."""
    reasons: dict[str, list[LayerReport]] = {}
    for layer in model.layers:
        if layer.status is LayerStatus.UNVERIFIED and not layer.known:
            reasons.setdefault(layer.reason, []).append(layer)
    for layers in reasons.values():
        first, rest = layers[0], len(layers) - 1
        name = printable(first.name) + (f" and {plural(rest, 'other layer')}" if rest else "")
        yield line(("ERROR ", "bold magenta"), (name, "bold"), f"   unverified: {printable(first.reason, 500)}")
    yield from unread(model)


def _findings(layer: LayerReport, looks: Looks, without: tuple[str, ...] = ()) -> Iterator[Line]:
    for finding in layer.findings:
        if finding.ignored is None and finding.rule not in without and _wanted(finding, looks):
            word = finding.severity.value
            yield line(
                (f"{word:<8}", _SEVERITIES[finding.severity]),
                f"{finding.rule} {printable(layer.name)}: {printable(finding.message, 500)}",
            )
            if finding.hint and finding.severity is not Severity.NOTE:
                yield line(f"{INDENT}  hint: {printable(finding.hint, 500)}")


def _wanted(finding: Finding, looks: Looks) -> bool:
    """Notes are gathered in one line (`_notes`) unless every layer is asked for."""
    return (
        looks.verbosity >= 1
        or finding.severity is Severity.ERROR
        or (finding.severity is Severity.WARNING and looks.verbosity >= 0)
    )


def _notes(model: ModelReport) -> Iterator[Line]:
    for qualified in words.qualifications(model):
        yield line((f"{INDENT}notes: ", "cyan"), qualified)
    noted: dict[str, list[tuple[LayerReport, Finding]]] = {}
    for layer in model.layers:
        for finding in layer.findings:
            if finding.severity is Severity.NOTE and finding.ignored is None and finding.rule not in _SAID_OF_DATA:
                noted.setdefault(finding.rule, []).append((layer, finding))
    for rule, found in noted.items():
        yield line((f"{INDENT}notes: ", "cyan"), f"{rule} in {_noted(found)}")
    for note in model.notes:
        yield line((f"{INDENT}notes: ", "cyan"), printable(note, 500))


def _noted(found: Sequence[tuple[LayerReport, Finding]]) -> str:
    """Return how many layers have a note, and its message: that of the first, by its name, where there are others."""
    layer, first = found[0]
    if len(found) == 1:
        return f"1 layer ({printable(first.message)})"
    return f"{plural(len(found), 'layer')} ({printable(layer.name)}: {printable(first.message)})"


def _every_layer(model: ModelReport) -> Iterator[Line]:
    width = max(len(printable(layer.name)) for layer in model.layers)
    for layer in model.layers:
        if layer.status is LayerStatus.VERIFIED:
            ratios = ", ".join(_within(one) for one in layer.comparisons if one.reference == "formula")
            yield line(("ok    ", "green"), f"{printable(layer.name):<{width}}  {ratios}")
            others = [one for one in layer.comparisons if one.reference != "formula"]
            for observed in dict.fromkeys(one.observed for one in others):
                rest = ", ".join(_within(one) for one in others if one.observed == observed)
                yield line(f"{INDENT}{'':<{width}}  {rest}")
            for note in layer.notes:
                yield line(f"{INDENT}{'':<{width}}  {printable(note, 500)}")


def _within(comparison: Comparison) -> str:
    ratio = 0.0 if comparison.ratio is None else comparison.ratio
    if comparison.reference not in counting.OUTPUTS:
        return f"{comparison.reference} {ratio:.2f}"
    return f"{comparison.title} {ratio:.2f} of the bound over {comparison.elements:,} values"


def _total(report: Report) -> Line:
    counts = Counter(model.status for model in report.models)
    parts: list[str | tuple[str, str]] = []
    for status, (_, style) in _VERDICTS.items():
        if counts[status]:
            parts += [
                ", " if parts else f"{plural(len(report.models), 'model')}: ",
                (f"{counts[status]} {status}", style),
            ]
    return line(*parts)
