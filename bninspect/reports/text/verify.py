"""The report for people at a terminal, or in the log of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import (
    LayerStatus,
    ModelReport,
    Report,
    Status,
)
from bninspect.reports import Looks, equivalence_words, words
from bninspect.reports import counts as counting
from bninspect.reports.text import drift, equivalence, exports, layers
from bninspect.reports.text.closing import VERDICTS, closing
from bninspect.reports.text.compare import compared
from bninspect.reports.text.inspect import layer_table, parameter_details
from bninspect.reports.text.lines import Line, line, shown
from bninspect.reports.text.lint import linted, unread
from bninspect.reports.text.mismatch import INDENT
from bninspect.reports.words import plural
from bninspect.safe_text import printable

_SHOWN_AS_MISMATCH = ("BN202", "BN301", "BN311")
_FIRST = (Status.FAIL, Status.ERROR, Status.EMPTY, Status.PASS)
_OK = ("ok", "green")


def render(report: Report, looks: Looks) -> str:
    """Return the report as text, with colours if `looks` wants them: failures first, the verdict on the whole last."""
    rows: list[Line] = []
    for model in _in_order(report):
        rows.extend(_model(model, report, looks))
    if not report.models:
        rows.append(_nothing(report))
    elif report.command != "inspect" or report.summary.exit_code or len(report.models) > 1 or looks.verbosity < 0:
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
    elif looks.verbosity < 0 and model.status is Status.PASS:
        return  # the last line counts it, and says what was not compared
    elif report.command == "compare":
        yield from compared(model, looks)
    elif report.command == "lint" or (report.command == "inspect" and looks.verbosity < 0):
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
    yield from layers.said(model.layers, looks)
    for layer in model.layers:
        for note in layer.notes:
            yield line(f"{INDENT}{printable(layer.name)}: {printable(note, 500)}")
    yield from layers.notes(model)


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
    yield from layers.mismatches(model, looks)
    yield from layers.unverified(model)
    yield from layers.said(model.layers, looks, without=_SHOWN_AS_MISMATCH)
    if looks.verbosity < 0:
        return
    if looks.verbosity >= 1:
        yield from layers.every_layer(model)
    elif verified and model.status is not Status.PASS:
        yield line(("ok    ", "green"), f"{plural(verified, 'other layer')} (-v lists them)")
    if verified:
        yield from layers.worst_ratio(model)
    yield from layers.kept_variances(model)
    yield from layers.notes(model)


def _verdict(label: tuple[str, str], model: ModelReport, text: str, looks: Looks) -> Line:
    word, style = label
    place = f"{printable(model.path)}: " if looks.verbosity < 0 else ""
    return line((f"{word:<6}", style), f"{place}{text}")


def _drifted(model: ModelReport, looks: Looks) -> Iterator[Line]:
    verdict = _verdict(VERDICTS[model.status], model, words.verdict(model), looks)
    yield _header(model) if looks.verbosity >= 0 else verdict
    yield from drift.lines(model, looks)
    yield from layers.unverified(model)
    yield from layers.said(model.layers, looks, without=layers.SAID_OF_DATA)
    if looks.verbosity >= 0:
        yield from layers.notes(model)
        yield verdict
