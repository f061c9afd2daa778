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
from bninspect.records.limits import of_limit
from bninspect.reports import Looks, equivalence_words, words
from bninspect.reports import counts as counting
from bninspect.reports.text import drift, equivalence, exports, findings
from bninspect.reports.text.closing import VERDICTS, closing
from bninspect.reports.text.compare import compared
from bninspect.reports.text.inspect import layer_table, parameter_details
from bninspect.reports.text.lines import Line, line, shown
from bninspect.reports.text.lint import linted, unread
from bninspect.reports.text.mismatch import INDENT, mismatch
from bninspect.reports.words import plural
from bninspect.safe_text import printable

_SHOWN_AS_MISMATCH = ("BN202", "BN301", "BN311")
_SAID_OF_DATA = ("BN501", "BN502")
_FIRST = (Status.FAIL, Status.ERROR, Status.EMPTY, Status.PASS)
_OK = ("ok", "green")


def render(report: Report, looks: Looks) -> str:
    """Return the report as text, with colours if `looks` wants them: failures first, the verdict on the whole last."""
    rows: list[Line] = []
    for model in _in_order(report):
        rows.extend(_model(model, report, looks))
    if not report.models:
        rows.append(_nothing(report))
    elif report.command != "inspect" or report.summary.exit_code or (len(report.models) > 1 and looks.verbosity >= 0):
        rows += exports.lines(report)
        rows.append(closing(report, looks))
    return shown(rows, looks)


def _in_order(report: Report) -> list[ModelReport]:
    """Return the models, those that failed first; of `inspect`, which judges nothing, as they were named."""
    if report.command == "inspect":
        return list(report.models)
    return sorted(report.models, key=lambda model: _FIRST.index(model.status))


def _model(model: ModelReport, report: Report, looks: Looks) -> Iterator[Line]:
    threshold = counting.fail_on(report)
    if model.error:
        yield from _broken(model)
    elif looks.verbosity < 0 and model.status is Status.PASS and report.command != "inspect":
        return  # the last line counts it, and says what was not compared
    elif report.command == "compare":
        yield from compared(model, looks)
    elif report.command == "lint":
        yield from linted(model, looks)
    elif report.command not in {"verify", "drift"}:
        yield from _inspected(model, looks)
    elif report.command == "drift":
        yield from _drifted(model, looks)
    else:
        alone = equivalence_words.alone(model, threshold)
        passes = alone.status is Status.PASS and model.status is not Status.PASS
        yield from _verified(alone, looks, _device(report), _OK if passes else VERDICTS[alone.status])
        yield from equivalence.lines(model, looks, threshold)


def _nothing(report: Report) -> Line:
    part = report.shard
    if part is not None and part.models:
        return line(f"part {part.index} of {part.count} has none of the {plural(part.models, 'model')}")
    return line(("EMPTY ", "bold yellow"), "no model was named")


def _header(model: ModelReport) -> Line:
    """Return the line that names the file, its writer, and what all its layers share."""
    own = [layer for layer in model.layers if layer.name != words.PROBE]
    parts = [plural(len(own), "batch-norm layer"), plural(sum(layer.channels for layer in own), "channel")]
    parts += ["and the probe"] * (len(own) < len(model.layers))
    parts += [words.scope(model)] * bool(model.left_out)
    parts += [words.fetched(model)] if model.bytes_read is not None else []
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
    word, style = VERDICTS[model.status]
    yield line((f"{word:<6}", style), _said_of(model))
    if model.error.why:
        yield line(f"{INDENT}why: {printable(model.error.why, 500)}")
    if model.error.hint:
        yield line(f"{INDENT}hint: {printable(model.error.hint, 500)}")


def _said_of(model: ModelReport) -> str:
    """Return what is wrong with a model that could not be read or run, its path first and once."""
    assert model.error is not None  # noqa: S101 - narrows the type
    what, path = printable(model.error.what, 500), printable(model.path)
    return what if what.startswith(path) else f"{path}: {what}"


def _inspected(model: ModelReport, looks: Looks) -> Iterator[Line]:
    yield _header(model)
    yield from layer_table(model.layers, looks)
    if looks.detailed:
        for layer in model.layers:
            yield from parameter_details(layer)
    yield from unread(model)
    yield from _findings(model.layers, looks)
    for layer in model.layers:
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


def _verified(model: ModelReport, looks: Looks, device: str, label: tuple[str, str]) -> Iterator[Line]:
    """Return what is known of a model by itself; its verdict comes last, but heads what is shown when quiet."""
    if looks.verbosity < 0 and label is _OK:
        return
    verified = sum(layer.status is LayerStatus.VERIFIED for layer in model.layers)
    told = f"{verified} of {plural(words.total(model), 'layer')} {words.claim(model, verified)} in "
    told += f"{printable(model.runtime or '')}{device}{words.reserve(model)}"
    verdict = _verdict(label, model, told if model.layers else words.verdict(model), looks)
    yield _header(model) if looks.verbosity >= 0 else verdict
    if not model.layers:
        yield from unread(model)
    else:
        yield from _layers(model, looks, verified)
    if looks.verbosity >= 0:
        yield verdict


def _layers(model: ModelReport, looks: Looks, verified: int) -> Iterator[Line]:
    yield from _mismatches(model, looks)
    yield from _unverified(model)
    yield from _findings(model.layers, looks, without=_SHOWN_AS_MISMATCH)
    if looks.verbosity < 0:
        return
    if looks.verbosity >= 1:
        yield from _every_layer(model)
    elif verified and model.status is not Status.PASS:
        yield line(("ok    ", "green"), f"{plural(verified, 'other layer')} (-v lists them)")
    if verified:
        yield from _worst_ratio(model)
    yield from _kept_variances(model)
    yield from _notes(model)


def _verdict(label: tuple[str, str], model: ModelReport, text: str, looks: Looks) -> Line:
    word, style = label
    place = f"{printable(model.path)}: " if looks.verbosity < 0 else ""
    return line((f"{word:<6}", style), f"{place}{text}")


def _mismatches(model: ModelReport, looks: Looks) -> Iterator[Line]:
    """Return the layers that are not what the formula says; of those with one cause, the worst stands for all."""
    groups: dict[tuple[str, ...], list[LayerReport]] = {}
    for layer in model.layers:
        if layer.status is LayerStatus.MISMATCH and (looks.verbosity >= 1 or not layer.known):
            causes = tuple(cause.sentence for cause in layer.explanation.causes) if layer.explanation else ()
            alike = causes and looks.verbosity < 1
            groups.setdefault(causes if alike else (layer.name,), []).append(layer)
    for layers in groups.values():
        worst = max(layers, key=counting.distance_of)
        yield from mismatch(worst, looks, [layer for layer in layers if layer is not worst])


def _drifted(model: ModelReport, looks: Looks) -> Iterator[Line]:
    verdict = _verdict(VERDICTS[model.status], model, words.verdict(model), looks)
    yield _header(model) if looks.verbosity >= 0 else verdict
    yield from drift.lines(model, looks)
    yield from _unverified(model)
    yield from _findings(model.layers, looks, without=_SAID_OF_DATA)
    if looks.verbosity >= 0:
        yield from _notes(model)
        yield verdict


def _worst_ratio(model: ModelReport) -> Iterator[Line]:
    judged = [
        (comparison.ratio, layer, comparison)
        for layer in model.layers
        if layer.status is LayerStatus.VERIFIED and layer.tolerance is None
        for comparison in layer.comparisons
        if comparison.ratio is not None
    ]
    if judged:
        ratio, layer, comparison = max(judged, key=lambda found: found[0])
        elements = sum(compared.elements for _, _, compared in judged)
        where = f", at {printable(layer.name)}, channel {comparison.worst.channel}" if comparison.worst else ""
        worst = of_limit(ratio).replace("the limit", "the rounding limit")
        yield line(f"{INDENT}largest error {worst}{where}; {elements:,} values compared")


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


def _findings(layers: Sequence[LayerReport], looks: Looks, without: tuple[str, ...] = ()) -> Iterator[Line]:
    found = [
        (layer, finding)
        for layer in layers
        for finding in layer.findings
        if finding.ignored is None and finding.rule not in without and _wanted(finding, looks)
    ]
    return findings.lines(found, looks)


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
            ratios = ", ".join(
                _within(comparison) for comparison in layer.comparisons if comparison.reference == "formula"
            )
            yield line(("ok    ", "green"), f"{printable(layer.name):<{width}}  {ratios}")
            others = [comparison for comparison in layer.comparisons if comparison.reference != "formula"]
            for observed in dict.fromkeys(further.observed for further in others):
                rest = ", ".join(_within(further) for further in others if further.observed == observed)
                yield line(f"{INDENT}{'':<{width}}  {rest}")
            for note in layer.notes:
                yield line(f"{INDENT}{'':<{width}}  {printable(note, 500)}")


def _within(comparison: Comparison) -> str:
    ratio = of_limit(comparison.ratio)
    if comparison.reference not in counting.OUTPUTS:
        return f"{comparison.reference} {ratio}"
    return f"{words.seen(comparison)} {ratio} over {comparison.elements:,} values"
