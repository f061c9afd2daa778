"""Why a model did not pass, in a few lines: equal causes together, what only follows from them last."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import Finding, LayerReport, LayerStatus, ModelReport
from bninspect.reports import counts, equivalence_words, words
from bninspect.safe_text import printable

_MOST_TIES = 2


def reasons(model: ModelReport, threshold: str) -> list[str]:
    """Return why a model did not pass, the causes first; empty if it passed."""
    if model.error:
        return [words.message(": ".join(filter(None, (model.error.what, model.error.why))))]
    direct: dict[str, list[LayerReport]] = {}
    inherited: dict[str, list[LayerReport]] = {}
    for layer in model.layers:
        if counts.layer_counts(layer, model, threshold):
            follows = layer.counterpart is not None and bool(layer.counterpart.inherited)
            reason = next(_reasons(layer, model, threshold), "")
            (inherited if follows else direct).setdefault(reason, []).append(layer)
    found = [f"{words.some(layers)}: {reason}" for kind in (direct, inherited) for reason, layers in kind.items()]
    of_model = [_said(finding) for finding in model.findings if counts.finding_counts(finding, model, threshold)]
    unread = [words.unread(calls) for calls in model.unread if not calls.known]
    return [*of_model, *found, *unread]


def first(model: ModelReport, threshold: str) -> str:
    """Return the first reason for which a model did not pass, and how many more there are; empty if it passed."""
    reason, *others = reasons(model, threshold) or [""]
    return f"{reason} (and {words.plural(len(others), 'more reason')})" if others else reason


def hint(model: ModelReport, threshold: str) -> str:
    """Return the first hint of what mends it; empty if there is none."""
    if model.error:
        return words.message(model.error.hint)
    layers = [finding for layer in model.layers for finding in layer.findings]
    counted = (one for one in (*model.findings, *layers) if counts.finding_counts(one, model, threshold))
    return next((words.message(one.hint) for one in counted if one.hint), "")


def _reasons(layer: LayerReport, model: ModelReport, threshold: str) -> Iterator[str]:
    """Yield what may be said of a layer, the most telling first."""
    if counts.loaded_differently(layer, model, threshold) and layer.explanation and layer.explanation.causes:
        yield _few(words.causes(layer.explanation))
    if layer.counterpart is not None and layer.counterpart.status is LayerStatus.MISMATCH:
        if layer.counterpart.inherited:
            yield f"its output differs because of {printable(layer.counterpart.inherited)}, which comes before it"
        if causes := equivalence_words.reasons(layer.counterpart):
            yield f"in the export: {_few(causes)}"
    if counts.unverified_counts(layer):
        yield f"unverified: {words.message(layer.reason or 'it was not compared')}"
    for finding in layer.findings:
        if counts.finding_counts(finding, model, threshold):
            yield _said(finding)
    if worst := counts.worst_comparison(layer):
        yield words.measured(worst)
    yield words.unspoken(layer) if layer.status is LayerStatus.MISMATCH else "it was not compared"


def _few(lines: list[str]) -> str:
    """Return causes in one line. None of several that fit as well stands there as if it were alone."""
    more = len(lines) - _MOST_TIES
    return ", ".join([*lines[:_MOST_TIES], *([f"or {words.plural(more, 'cause')} more"] if more > 0 else [])])


def _said(finding: Finding) -> str:
    return f"{printable(finding.rule)}: {words.message(finding.message)}"
