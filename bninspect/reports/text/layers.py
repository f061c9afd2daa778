"""What the report for people says of the layers of a model: the wrong ones, the unknown, and all that was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bninspect.records import (
    Comparison,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Severity,
)
from bninspect.records.limit_words import of_limit
from bninspect.reports import Looks, words
from bninspect.reports import counts as counting
from bninspect.reports.text import finding_lines
from bninspect.reports.text.lines import Line, line
from bninspect.reports.text.lint import unread
from bninspect.reports.text.mismatch import INDENT, mismatch
from bninspect.reports.words import plural
from bninspect.safe_text import printable

SAID_OF_DATA = ("BN501", "BN502")
"""Rules whose findings stand in the words on the data."""


def mismatches(model: ModelReport, looks: Looks) -> Iterator[Line]:
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


def worst_ratio(model: ModelReport) -> Iterator[Line]:
    """Say how near to its limit the value is that came the nearest."""
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


def kept_variances(model: ModelReport) -> Iterator[Line]:
    """Say which variance a training step was seen to average: it decides what fine-tuning stores."""
    counts = Counter(layer.estimator for layer in model.layers if layer.estimator is not None)
    if counts:
        said = ", ".join(f"the {one} variance in {plural(number, 'layer')}" for one, number in counts.most_common())
        yield line(f"{INDENT}a training step averages {said}")


def unverified(model: ModelReport) -> Iterator[Line]:
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


def said(layers: Sequence[LayerReport], looks: Looks, without: tuple[str, ...] = ()) -> Iterator[Line]:
    """Return the findings of layers, those of some rules left out."""
    found = [
        (layer, finding)
        for layer in layers
        for finding in layer.findings
        if finding.ignored is None and finding.rule not in without and _wanted(finding, looks)
    ]
    return finding_lines.lines(found, looks)


def _wanted(finding: Finding, looks: Looks) -> bool:
    """Notes are gathered in one line (`_notes`) unless every layer is asked for."""
    return (
        looks.verbosity >= 1
        or finding.severity is Severity.ERROR
        or (finding.severity is Severity.WARNING and looks.verbosity >= 0)
    )


def notes(model: ModelReport) -> Iterator[Line]:
    """Return what is noted of the model and of its layers, each rule once."""
    for qualified in words.qualifications(model):
        yield line((f"{INDENT}notes: ", "cyan"), qualified)
    noted: dict[str, list[tuple[LayerReport, Finding]]] = {}
    for layer in model.layers:
        for finding in layer.findings:
            if finding.severity is Severity.NOTE and finding.ignored is None and finding.rule not in SAID_OF_DATA:
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


def every_layer(model: ModelReport) -> Iterator[Line]:
    """Return a line for each layer that is verified, with its errors over their limits."""
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
