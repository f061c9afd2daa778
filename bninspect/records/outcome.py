"""From what is known of layers to the verdict on a model, on a report, and the exit code. Nothing else decides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bninspect import environment
from bninspect.errors import BninspectError
from bninspect.records import (
    Counterpart,
    Finding,
    Heading,
    LayerReport,
    LayerStatus,
    ModelReport,
    Option,
    Problem,
    Report,
    Severity,
    Shard,
    Status,
    Summary,
    Unread,
)
from bninspect.version import __version__

# When several apply, the first one counts: a gate that could not check must not look like one that found nothing.
_PRECEDENCE = (2, 3, 1, 5, 0)
_WORST_FIRST = (LayerStatus.MISMATCH, LayerStatus.UNVERIFIED, LayerStatus.VERIFIED)
"""What counts of two: that something is known to be wrong comes before that nothing is known."""
_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.ERROR: 3, Status.EMPTY: 5}


def fails(finding: Finding, fail_on: str) -> bool:
    """Return whether a finding reaches `--fail-on`."""
    ladder = [severity.value for severity in Severity]
    return finding.ignored is None and fail_on != "never" and ladder.index(finding.severity) <= ladder.index(fail_on)


def rank(status: LayerStatus | None) -> int:
    """Return the place of a status among all, the one that counts most first; None is unverified."""
    return _WORST_FIRST.index(status or LayerStatus.UNVERIFIED)


def joined(layer: LayerReport, counterpart: Counterpart) -> LayerReport:
    """Return the report of a layer with what became of it in an export: the worse of the two is its status."""
    status = _WORST_FIRST[min(rank(layer.status), rank(counterpart.status))]
    reason = layer.reason or (counterpart.sentence if status is LayerStatus.UNVERIFIED else "")
    return replace(layer, status=status, reason=reason, counterpart=replace(counterpart, own=layer.status))


def model_status(
    layers: Iterable[LayerReport],
    findings: Iterable[Finding],
    fail_on: str,
    unread: Iterable[Unread] = (),
    unproved: Iterable[str] = (),
) -> Status:
    """Return the verdict on a model: unread calls and what is unverified first, then mismatches and findings.

    Args:
        layers: of the model.
        findings: about the model as a whole.
        fail_on: that of the command.
        unread: calls of batch norm that are none of the layers.
        unproved: what could not be compared of an export.
    """
    layers = tuple(layers)
    if any(not calls.known for calls in unread) or tuple(unproved):
        return Status.ERROR
    if not layers:
        return Status.EMPTY
    statuses = {status for layer in layers if not layer.known for status in _statuses(layer)}
    if LayerStatus.UNVERIFIED in statuses:
        return Status.ERROR
    every = [*findings, *(finding for layer in layers for finding in layer.findings)]
    failed = fail_on != "never" and (LayerStatus.MISMATCH in statuses or any(fails(one, fail_on) for one in every))
    return Status.FAIL if failed else Status.PASS


def recount(model: ModelReport, fail_on: str) -> ModelReport:
    """Return a report whose verdict is no better than what it says of each layer: it may have been edited."""
    if model.error:
        return model
    layers = tuple(map(_contradicted, model.layers))
    own = model_status(layers, model.findings, fail_on, model.unread, model.unproved)
    worse = max(own, model.status, key=(Status.PASS, Status.EMPTY, Status.FAIL, Status.ERROR).index)
    return replace(model, layers=layers, status=worse)


def _contradicted(layer: LayerReport) -> LayerReport:
    """Return a layer as a mismatch if it is called verified, and what was compared does not agree."""
    wrong = layer.status is LayerStatus.VERIFIED and any(not found.agrees for found in layer.comparisons)
    return replace(layer, status=LayerStatus.MISMATCH) if wrong else layer


def _statuses(layer: LayerReport) -> Iterator[LayerStatus | None]:
    """Yield the status of a layer, and those that it is the worst of: in its own runtime and in an export."""
    yield layer.status
    if layer.counterpart is not None:
        yield from (layer.counterpart.own, layer.counterpart.status)


def problem(error: BninspectError) -> Problem:
    """Return an error as a report holds it."""
    return Problem(type(error).__name__, error.what, error.why, error.hint, error.exit_code)


def broken(path: str, error: BninspectError) -> ModelReport:
    """Return the report of a model that could not be read or run."""
    status = Status.EMPTY if error.exit_code == _CODES[Status.EMPTY] else Status.ERROR
    return ModelReport(path, None, 0, "", "", status, error=problem(error))


class ReportTally:
    """The counts of a report, model by model."""

    def __init__(self) -> None:
        self._models = self._layers = 0
        self.readable = 0
        """Models that could be read."""
        self._codes: set[int] = set()
        self._statuses: Counter[LayerStatus | None] = Counter()
        self._severities: Counter[Severity] = Counter()

    def add(self, model: ModelReport) -> None:
        """Count a model."""
        self._models += 1
        self._layers += len(model.layers)
        self.readable += model.error is None
        self._codes.add(model.error.exit_code if model.error else _CODES[model.status])
        self._statuses.update(layer.status for layer in model.layers)
        findings = [*(finding for layer in model.layers for finding in layer.findings), *model.findings]
        self._severities.update(finding.severity for finding in findings if finding.ignored is None)

    def exit_code(self, *, allow_empty: bool = False) -> int:
        """Return the exit code, by the table of the manual."""
        codes = self._codes or {5}
        code = next(code for code in _PRECEDENCE if code in codes)
        return 0 if code == _CODES[Status.EMPTY] and allow_empty else code

    def summary(self, *, allow_empty: bool, shard: Shard | None = None) -> Summary:
        """Return the counts, the status and the exit code. Arguments as for `report`."""
        spared = shard is not None and shard.models > 0 and not self._models
        code = self.exit_code(allow_empty=allow_empty or spared)
        status = next((status for status, number in _CODES.items() if number == code), Status.ERROR)
        return Summary(
            models=self._models,
            layers=self._layers,
            verified=self._statuses[LayerStatus.VERIFIED],
            mismatch=self._statuses[LayerStatus.MISMATCH],
            unverified=self._statuses[LayerStatus.UNVERIFIED],
            findings={severity.value: self._severities[severity] for severity in Severity},
            status=status,
            exit_code=code,
        )


def exit_code(models: Iterable[ModelReport], *, allow_empty: bool = False) -> int:
    """Return the exit code of a report, by the table of the manual."""
    return _tally(models).exit_code(allow_empty=allow_empty)


def _tally(models: Iterable[ModelReport]) -> ReportTally:
    tally = ReportTally()
    for model in models:
        tally.add(model)
    return tally


def report(
    command: str,
    models: Iterable[ModelReport],
    *,
    options: Mapping[str, Option],
    allow_empty: bool,
    running: Mapping[str, Any],
    shard: Shard | None = None,
) -> Report:
    """Return the report of a command, counted.

    Args:
        command: its name.
        models: what is known of each model, in the order of the command line.
        options: what was asked for, and where that came from.
        allow_empty: whether a run that found nothing to check is a success.
        running: what the framework's process said of its environment.
        shard: which part of the models these are. One that has none, because others have them, is a success.
    """
    return under(heading(command, options, running), models, allow_empty=allow_empty, shard=shard)


def heading(command: str, options: Mapping[str, Option], running: Mapping[str, Any]) -> Heading:
    """Return what is known of a run before its first model. Arguments as for `report`."""
    return Heading(
        command=command,
        tool={"name": "bninspect", "version": __version__},
        environment={**environment.describe(), **running},
        options=options,
    )


def under(
    heading: Heading, models: Iterable[ModelReport], *, allow_empty: bool = False, shard: Shard | None = None
) -> Report:
    """Return the report under a heading, counted. Arguments as for `report`."""
    models = tuple(models)
    summary = count(models, allow_empty=allow_empty, shard=shard)
    return Report(**vars(heading), summary=summary, models=models, shard=shard)


def count(models: Iterable[ModelReport], *, allow_empty: bool, shard: Shard | None = None) -> Summary:
    """Return the counts of a report, its status and exit code. Arguments as for `report`."""
    return _tally(models).summary(allow_empty=allow_empty, shard=shard)
