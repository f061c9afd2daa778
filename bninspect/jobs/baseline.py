"""What is worse than it was: a report judged against an earlier one of the same models.

What was so already is known and does not fail: findings of the same rule in the same layer and channels, mismatches
that are not much further off, layers that nothing vouched for then either. A model that cannot be read or run is an
error whatever the baseline says: nothing is known of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

from bninspect.jobs import named_models
from bninspect.records import (
    Comparison,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Problem,
    Report,
    Severity,
    Status,
    Unread,
    outcome,
)
from bninspect.settings import Settings
from bninspect.verdicts import selection

KNOWN = "in the baseline"
WORSE = 2.0
"""A known mismatch is worse if its error grew by more than this factor: other kernels and inputs change it a little."""
_STORED = tuple(
    field.name for field in fields(LayerReport) if field.default is MISSING and field.default_factory is MISSING
)
"""What a file says of a layer: of what a run finds out there may be nothing yet."""


def judged(model: ModelReport, earlier: Report, settings: Settings) -> ModelReport:
    """Return the report of a model in which only what is worse than in an earlier report fails, or what is gone.

    The earlier report of a model is the one with the same path, else with the same content: another file that is
    called the same is another model. A model that has none is judged as if there were no baseline.
    """
    before = counterpart(model, earlier.models)
    if before is None or before.error or model.error:
        return model
    old = {layer.name: layer for layer in before.layers if selection.wanted(layer.name, settings)}
    layers = [_layer(layer, old.pop(layer.name)) if layer.name in old else layer for layer in model.layers]
    layers.extend(map(_gone, old.values()))
    worse = outputs_are_worse(model, before)
    findings = model.findings if worse else _known(model.findings, before.findings)
    unread = tuple(_unread(calls, before.unread) for calls in model.unread)
    status = outcome.model_status(layers, findings, settings.fail_on, unread, model.unproved)
    return replace(model, layers=tuple(layers), findings=findings, unread=unread, status=status)


def gone(earlier: Report, paths: Iterable[str], searched: Sequence[str]) -> list[ModelReport]:
    """Return an error for each model of the earlier report that a search of the same place no longer finds.

    Args:
        earlier: the baseline.
        paths: the models that were found now.
        searched: folders and patterns that were searched; what was not looked for is not missed.
    """
    here = {os.path.abspath(path) for path in paths}  # noqa: PTH100 - as _place
    missing = [model.path for model in earlier.models if _place(model) not in here]
    return [_missing(path) for path in missing if any(named_models.covers(place, path) for place in searched)]


def _missing(path: str) -> ModelReport:
    problem = Problem(
        kind="UnreadableFile",
        what="this model is gone",
        why="it is in the baseline, and the search has not found it",
        hint="if that is meant, write a new baseline: --write-baseline FILE",
        exit_code=3,
    )
    return ModelReport(path, None, 0, "", "", Status.ERROR, error=problem)


def counterpart(model: ModelReport, candidates: Sequence[ModelReport]) -> ModelReport | None:
    """Return the earlier report of a model: the one with its path, else with its content; None if there is none.

    Of several exports of one model the report on another export is none of it.
    """
    place = _place(model)
    if len({candidate.place[1] for candidate in candidates if _place(candidate) == place}) > 1:
        own = os.path.abspath(model.place[1])  # noqa: PTH100 - as _place
        candidates = [candidate for candidate in candidates if os.path.abspath(candidate.place[1]) == own]  # noqa: PTH100
    same_content = (candidate for candidate in candidates if candidate.content == model.content is not None)
    return next((candidate for candidate in candidates if _place(candidate) == place), None) or next(same_content, None)


def _place(model: ModelReport) -> str:
    """Return where a model is, however its path was written; one of an earlier run as seen from here."""
    return os.path.abspath(model.path)  # noqa: PTH100 - keeps what a link is called


def _unread(calls: Unread, before: Sequence[Unread]) -> Unread:
    """Return calls that were not read, as known if no fewer of them were not read of the same place before."""
    known = any(old.where == calls.where and old.count >= calls.count for old in before)
    return replace(calls, known=f"not read {KNOWN} either") if known else calls


def _layer(layer: LayerReport, before: LayerReport) -> LayerReport:
    known = ""
    if layer.status is before.status is LayerStatus.UNVERIFIED:
        known = f"unverified {KNOWN} too"
    elif layer.status is before.status is LayerStatus.MISMATCH:
        if is_worse(layer, before):
            return layer  # with all its findings: they say how
        known = f"a mismatch {KNOWN} too, and no further off"
    return replace(layer, known=known, findings=_known(layer.findings, before.findings))


def is_worse(layer: LayerReport, before: LayerReport) -> bool:
    """Return whether a layer is further off than it was, in its own runtime or in the export of its model."""
    statuses = zip(_statuses(layer), _statuses(before), strict=True)
    if any(now is not LayerStatus.VERIFIED and now is not then for now, then in statuses):
        return True
    return _any_worse(layer.comparisons, before.comparisons) or _any_worse(layer.exported, before.exported)


def _statuses(layer: LayerReport) -> tuple[LayerStatus | None, LayerStatus | None]:
    """Return the status of a layer in its own runtime, and in the export; without one it is verified there."""
    found = layer.counterpart
    return (layer.status, LayerStatus.VERIFIED) if found is None else (found.own, found.status)


def _outputs(model: ModelReport) -> tuple[Comparison, ...]:
    return model.against.outputs if model.against else ()


def outputs_are_worse(model: ModelReport, before: ModelReport) -> bool:
    """Return whether an output of a model's export is further off than it was."""
    return _any_worse(_outputs(model), _outputs(before))


def _any_worse(now: Sequence[Comparison], before: Sequence[Comparison]) -> bool:
    old = dict(_numbered(before))
    return any(_further(one, old.get(key)) for key, one in _numbered(now) if not one.agrees)


def _numbered(comparisons: Iterable[Comparison]) -> Iterator[tuple[tuple[str, str, int], Comparison]]:
    """Yield comparisons with what tells them apart: several outputs of a model are called the same."""
    count: Counter[tuple[str, str]] = Counter()
    for comparison in comparisons:
        key = (comparison.observed, comparison.reference)
        yield (*key, count[key]), comparison
        count[key] += 1


def _further(now: Comparison, before: Comparison | None) -> bool:
    """Return whether a comparison that does not agree is further off than it was."""
    if before is None or before.agrees:
        return True
    if before.ratio is None:
        return False  # nothing is further off than what is not finite
    return now.ratio is None or not now.ratio <= WORSE * before.ratio


def _known(findings: tuple[Finding, ...], before: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(
        replace(finding, ignored=KNOWN)
        if finding.ignored is None and any(covers(old, finding) for old in before)
        else finding
        for finding in findings
    )


def covers(old: Finding, new: Finding) -> bool:
    """Return whether a finding says no more than an old one: no greater severity, no further channel."""
    ladder = list(Severity)
    if old.rule != new.rule or ladder.index(new.severity) < ladder.index(old.severity):
        return False
    # Which channels a comparison lists depends on the input; how far they are off is judged by the comparison itself.
    if "observed" in new.evidence:
        return bool(old.evidence.get("observed") == new.evidence["observed"])
    if old.evidence.get("outputs") != new.evidence.get("outputs"):
        return False
    listed, count = _channels(new)
    known, most = _channels(old)
    return count <= most and all(channel in known for channel in listed)


def _channels(finding: Finding) -> tuple[list[Any], int]:
    """Return the channels that a finding lists, the first ones, and how many it is about."""
    listed = finding.evidence.get("channels")
    channels = list(listed) if isinstance(listed, (list, tuple)) else []
    count = finding.evidence.get("count")
    return channels, count if isinstance(count, int) else len(channels)


def _gone(layer: LayerReport) -> LayerReport:
    """Return a layer of the baseline that the model no longer has, as one that nothing vouches for."""
    reason = "this layer is gone: it is in the baseline, and the model no longer has it"
    stored = {name: getattr(layer, name) for name in _STORED}
    return LayerReport(**stored, status=LayerStatus.UNVERIFIED, reason=reason)
