"""What every output format says in the same words. All of it is plain text with names from files made inert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bninspect.records import (
    Comparison,
    Evidence,
    Explanation,
    LayerReport,
    LayerStatus,
    ModelReport,
    Problem,
    Report,
    Severity,
    Statistics,
    Status,
    Unread,
    Worst,
    in_words,
)
from bninspect.records.limit_words import of_limit
from bninspect.reports import drift_words, equivalence_words
from bninspect.reports.counts import OUTPUTS
from bninspect.safe_text import printable

LONGEST_MESSAGE = 500
PROBE = "__probe__"
"""The layer that test vectors add to those of a model."""
LOADED_DIFFERENTLY = "the runtime holds something else than the file"
_MOST_TIES = 4
SEVERITIES = tuple(Severity)
NOTHING_READ = "no batch norm of this file was read"
FORMULA = "gamma*(x-mean)/sqrt(variance+epsilon)+beta"
_FOLDED_FORMULA = "gamma*x+beta"


def unspoken(layer: LayerReport) -> str:
    """Return why a layer is a mismatch of which no comparison and no finding that counts tells."""
    if layer.fit is not None:
        after = f", after {printable(layer.fit.inherited)}" if layer.fit.inherited else ""
        return f"its statistics differ from those of the data{after}"
    return LOADED_DIFFERENTLY


def plural(count: int, noun: str) -> str:
    """Return `3 layers`, `1 layer`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def message(text: str) -> str:
    """Return a message that may hold names from files, inert and not endless."""
    return printable(text, LONGEST_MESSAGE)


def summary(report: Report) -> str:
    """Return how many models, layers and findings came out how, in one line."""
    counted = report.summary
    models = Counter(model.status for model in report.models)
    parts = [f"{plural(counted.models, 'model')}: {_listed({status: models[status] for status in Status})}"]
    layers = {"verified": counted.verified, "mismatch": counted.mismatch, "unverified": counted.unverified}
    if any(layers.values()):
        parts.append(f"{plural(counted.layers, 'batch-norm layer')}: {_listed(layers)}")
    else:
        parts.append(plural(counted.layers, "batch-norm layer"))
    parts.append(f"findings: {_listed(dict(counted.findings))}")
    return "; ".join(parts)


def _listed(counts: dict[str, int] | dict[Status, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"


def verdict(model: ModelReport) -> str:
    """Return what is known of a model by itself, in one sentence without the verdict's word."""
    if model.error:
        return message(model.error.what)
    if not model.layers:
        return NOTHING_READ if model.unread else "no batch-norm layer was chosen"
    if model.data is not None:
        return drift_words.verdict(model) + qualification(model)
    statuses = Counter(layer.status for layer in map(equivalence_words.layer_alone, model.layers))
    if statuses[None]:
        left = f", {scope(model)}" if model.left_out else ""
        return f"{plural(len(model.layers), 'batch-norm layer')} read, {_finding_counts(model)}{left}"
    verified = statuses[LayerStatus.VERIFIED]
    told = f"{verified} of {plural(total(model), 'layer')} {claim(model, verified)} in "
    return told + printable(model.runtime or "") + reserve(model)


def claim(model: ModelReport, verified: int) -> str:
    """Return what is known of the `verified` layers of a model."""
    if not verified:
        return "verified"
    folded = all(layer.statistics is Statistics.FOLDED for layer in model.layers)
    trained = any(comparison.reference == "output" for layer in model.layers for comparison in layer.comparisons)
    verb = "equals" if total(model) == 1 else "equal"
    return f"{verb} {_FOLDED_FORMULA if folded else FORMULA}{', also in a training step,' if trained else ''}"


def reserve(model: ModelReport) -> str:
    """Return what must stand behind a claim: that no model was run, tolerances, a baseline; empty if nothing must."""
    alone = model.evidence is Evidence.LAYER and any(layer.comparisons for layer in model.layers)
    return (", each layer alone, outside its model" if alone else "") + qualification(model)


def verdicts(model: ModelReport) -> list[str]:
    """Return the verdict of a model, and that of the export it was held against."""
    if model.against is None:
        return [verdict(model)]
    return [
        verdict(model),
        f"against {printable(model.against.path, LONGEST_MESSAGE)}: {equivalence_words.verdict(model)}",
    ]


def _finding_counts(model: ModelReport) -> str:
    found = [*model.findings, *(finding for layer in model.layers for finding in layer.findings)]
    counts = Counter(finding.severity.value for finding in found if finding.ignored is None)
    return ", ".join(plural(count, word) for word, count in sorted(counts.items())) or "no findings"


def unverified(model: ModelReport) -> list[str]:
    """Return one line for each reason for which layers are unverified, however many share it, and what is unread."""
    reasons: dict[str, list[LayerReport]] = {}
    for layer in model.layers:
        if layer.status is LayerStatus.UNVERIFIED and not layer.known:
            reasons.setdefault(layer.reason, []).append(layer)
    lines = [f"{some(layers)}: unverified: {message(reason)}" for reason, layers in reasons.items()]
    return lines + [unread(calls) for calls in model.unread if not calls.known]


def reasons_of(problem: Problem) -> list[str]:
    """Return why a model could not be checked, and what to do about it, each in a line."""
    return [f"{word}: {message(text)}" for word, text in (("why", problem.why), ("hint", problem.hint)) if text]


def unread(calls: Unread) -> str:
    """Return that calls of batch norm were not read, and why."""
    why = f": {message(calls.reason)}" if calls.reason else ""
    calling = f"{plural(calls.count, 'more call')} of batch norm in " if calls.count else ""
    return f"{calling}{printable(calls.where)}, not read{why}"


def some(layers: Sequence[LayerReport]) -> str:
    """Return the name of the first layer, and how many others there are."""
    names = list(dict.fromkeys(layer.name for layer in layers))
    others = f" and {plural(len(names) - 1, 'other layer')}" if len(names) > 1 else ""
    return printable(names[0]) + others


def rules(layer: LayerReport) -> str:
    """Return the codes of what was found in a layer and counts, each once; empty if nothing was."""
    codes = dict.fromkeys(finding.rule for finding in layer.findings if finding.ignored is None)
    return printable(" ".join(codes))


def measured(comparison: Comparison) -> str:
    """Return what a comparison found, as a share of the limit."""
    if not comparison.elements:
        return "no value was compared"
    counted = f"{comparison.violations:,} of {comparison.elements:,} values {seen(comparison)}"
    channel = f", channel {comparison.worst.channel}" if comparison.worst else ""
    if comparison.agrees:
        return f"{comparison.elements:,} values {seen(comparison)}, the worst {ratio(comparison)}{channel}"
    if comparison.ratio is None:
        return f"{counted} are not finite{channel}{_origin(comparison)}"
    return f"{counted} are wrong, the worst by {ratio(comparison)}{channel}"


def ratio(comparison: Comparison) -> str:
    """Return the largest error as a share of its limit."""
    return "-" if comparison.ratio is None and not comparison.nonfinite else of_limit(comparison.ratio)


def seen(comparison: Comparison) -> str:
    """Return how the values of a comparison came about, in words that need no manual."""
    how = printable(in_words(comparison.observed))
    return how if comparison.reference in OUTPUTS else f"of {printable(comparison.reference)} {how}"


def _origin(comparison: Comparison) -> str:
    inherited = comparison.worst is not None and comparison.worst.x is None
    return " (nor is their input: an earlier layer is the cause)" if inherited else ""


def by_hand(worst: Worst, digits: int = 9) -> str:
    """Return the arithmetic of an element with its numbers in it; 9 digits tell all float32 numbers apart."""
    numbers = (worst.gamma, worst.x, worst.moving_mean, worst.moving_variance, worst.beta, worst.expected)
    gamma, x, mean, variance, beta, expected = (number(value, digits) for value in numbers)
    return f"{gamma} * ({x} - {mean}) / sqrt({variance} + {number(worst.epsilon, 6)}) + {beta} = {expected}"


def causes(explanation: Explanation) -> list[str]:
    """Return why outputs are not those of the formula: what fits and what would tell it apart, or that nothing fits."""
    if not explanation.causes:
        return [message(text) for text in (explanation.sentence, *explanation.remarks)]
    first, *others = explanation.causes
    share = "every value" if first.explains == 1.0 else f"{first.explains:.1%} of the values"
    lines = [f"{message(first.sentence)} (explains {share})"]
    for other in others[:_MOST_TIES]:
        apart = f" (told apart by: {message(other.separated_by)})" if other.separated_by else ""
        lines.append(f"or {message(other.sentence)}{apart}")
    if len(others) > _MOST_TIES:
        lines.append(f"or {plural(len(others) - _MOST_TIES, 'other')} that fit as well")
    return lines


def number(value: float | None, digits: int = 9) -> str:
    """Return a number as people read it."""
    return "not finite" if value is None else f"{value:.{digits}g}"


def qualification(model: ModelReport) -> str:
    """Return what must stand beside the verdict on a model; empty if it rests on proof alone."""
    tolerated = sum(layer.tolerance is not None for layer in model.layers)
    known = sum(bool(layer.known) for layer in model.layers)
    parts = [f"{tolerated} by tolerance, not by proof"] * bool(tolerated)
    parts += [f"{known} no worse than in the baseline"] * bool(known)
    unread = sum(calls.count for calls in model.unread)
    parts += [f"{unread} more not read"] * bool(unread)
    parts += ["a compiled part not read"] * any(not calls.count for calls in model.unread)
    parts += [scope(model)] * bool(model.left_out)
    return f", {', '.join(parts)}" if parts else ""


def fetched(model: ModelReport) -> str:
    """Return how much of a model elsewhere was fetched."""
    return f"{model.bytes_read:,} of {model.bytes:,} bytes fetched"


def scope(model: ModelReport) -> str:
    """Return how many layers were left out, and by what; empty if none was."""
    return f"{model.left_out.count} left out by {message(model.left_out.by)}" if model.left_out else ""


def total(model: ModelReport) -> int:
    """Return how many layers a model has, those left out included."""
    return len(model.layers) + (model.left_out.count if model.left_out else 0)


def qualifications(model: ModelReport) -> Iterator[str]:
    """Yield one line for each tolerance, and one for each reason for which something that is wrong does not fail."""
    for tolerance in dict.fromkeys(layer.tolerance for layer in model.layers if layer.tolerance):
        layers = [layer for layer in model.layers if layer.tolerance == tolerance]
        reason = f": {message(tolerance.reason)}" if tolerance.reason else ""
        yield f"{_named(layers)} by tolerance (rtol {tolerance.rtol:g}, atol {tolerance.atol:g}), not by proof{reason}"
    for known in dict.fromkeys(layer.known for layer in model.layers if layer.known):
        yield f"{_named([layer for layer in model.layers if layer.known == known])}: {message(known)}"
    for calls in model.unread:
        if calls.known:
            yield f"batch norms in {printable(calls.where)}: {message(calls.known)}"


def _named(layers: list[LayerReport]) -> str:
    others = len(layers) - 1
    rest = f" and {plural(others, 'other layer')}" if others else ""
    return printable(layers[0].name) + rest
