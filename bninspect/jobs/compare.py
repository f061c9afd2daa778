"""Two reports side by side: what is worse, gone, better and new, as a report of its own."""

from __future__ import annotations

from dataclasses import replace

from bninspect.errors import UsageError
from bninspect.jobs import baseline
from bninspect.records import Finding, LayerReport, ModelReport, Report, Severity, Status, outcome
from bninspect.verdicts import change_findings


def compare(old: Report, new: Report) -> Report:
    """Return what changed from one report to a later one of the same command.

    Each model of both is in it, with a finding (BN601 to BN604) for each change; what did not change has none. Ends
    with 1 if something is worse or gone, or new and wrong, and with 3 if a model could not be read in either run.

    Raises:
        UsageError: they are not of the same command.
    """
    if old.command != new.command:
        raise UsageError(
            "these reports are of different commands",
            why=f"`bninspect {old.command}` wrote the first, `bninspect {new.command}` the second",
        )
    models, seen = [], set()
    for model in new.models:
        before = baseline.counterpart(model, old.models)
        seen.add(id(before))
        models.append(_new(model) if before is None else _changed(model, before))
    models += [_gone(model) for model in old.models if id(model) not in seen]
    return outcome.report("compare", models, options={}, allow_empty=False, running={})


def _changed(model: ModelReport, before: ModelReport) -> ModelReport:
    if model.error and before.error:
        return model
    if model.error:
        return _of(before, [change_findings.worse(f"it cannot be read any more: {model.error.what}")], model.path)
    if before.error:
        return _of(model, [change_findings.better(f"it could not be read before: {before.error.what}")])
    old = {layer.name: layer for layer in before.layers}
    layers = []
    for layer in model.layers:
        earlier = old.pop(layer.name, None)
        findings = [_new_layer(layer)] if earlier is None else _changes(layer, earlier)
        layers.append(_plain(layer, findings))
    layers += [
        _plain(layer, [change_findings.gone("the later report does not have this layer")]) for layer in old.values()
    ]
    hows = []
    if baseline.outputs_are_worse(model, before):
        hows.append("an output of the export is further off")
    if sum(calls.count or 1 for calls in model.unread) > sum(calls.count or 1 for calls in before.unread):
        hows.append("more calls of batch norm are not read")
    return _of(replace(model, layers=tuple(layers)), _said(hows, [], model.findings, before.findings))


def _changes(layer: LayerReport, before: LayerReport) -> list[Finding]:
    """Return what changed of a layer, as one finding at most."""
    was, now = before.status, layer.status
    if baseline.is_worse(layer, before):
        how = f"{was} before, {now} now" if was is not now else "its error is more than twice what it was"
        return _said([how], [], layer.findings, before.findings)
    better = []
    if baseline.is_worse(before, layer):
        better = [f"{was} before, {now} now" if was is not now else "its error is less than half of what it was"]
    return _said([], better, layer.findings, before.findings)


def _said(worse: list[str], better: list[str], now: tuple[Finding, ...], before: tuple[Finding, ...]) -> list[Finding]:
    """Return what is worse, or else what is better, with the findings that were added or have gone, without notes."""
    counted, old = ([each for each in all_ if _counts(each)] for all_ in (now, before))
    added = [finding for finding in counted if not any(baseline.covers(known, finding) for known in old)]
    hows = [*worse, *(f"{finding.rule} {finding.message}" for finding in added)]
    if hows:
        failing = bool(worse) or any(finding.severity is Severity.ERROR for finding in added)
        return [change_findings.worse("; ".join(hows), Severity.ERROR if failing else Severity.WARNING)]
    left = {finding.rule for finding in counted}
    lost = dict.fromkeys(finding.rule for finding in old if finding.rule not in left)
    hows = [*better, *(f"{rule} is not found any more" for rule in lost)]
    return [change_findings.better("; ".join(hows))] if hows else []


def _counts(finding: Finding) -> bool:
    return finding.ignored is None and finding.severity is not Severity.NOTE


def _new(model: ModelReport) -> ModelReport:
    if model.error:
        return model
    said = f"the earlier report does not have this model; its verdict is {model.status}"
    return _of(model, [change_findings.new(said, right=model.status is Status.PASS)])


def _new_layer(layer: LayerReport) -> Finding:
    wrong = layer.status not in {None, "verified"} or any(
        finding.severity is Severity.ERROR for finding in layer.findings
    )
    return change_findings.new("the earlier report does not have this layer", right=not wrong)


def _gone(model: ModelReport) -> ModelReport:
    return _of(model, [change_findings.gone("the later report does not have this model")])


def _of(model: ModelReport, findings: list[Finding], path: str = "") -> ModelReport:
    """Return a model with what changed of it and of its layers, and the verdict on that."""
    layers = tuple(
        layer if any(finding.rule in change_findings.FINDINGS for finding in layer.findings) else _plain(layer, [])
        for layer in model.layers
    )
    every = [*findings, *(finding for layer in layers for finding in layer.findings)]
    failed = any(outcome.fails(finding, "error") for finding in every)
    return ModelReport(
        path=path or model.path,
        sha256=model.sha256,
        bytes=model.bytes,
        format=model.format,
        writer=model.writer,
        status=Status.FAIL if failed else Status.PASS,
        layers=layers,
        findings=tuple(findings),
    )


def _plain(layer: LayerReport, findings: list[Finding]) -> LayerReport:
    """Return a layer with nothing but what changed: what is known of it stands in the two reports."""
    return replace(
        layer,
        status=None,
        reason="",
        known="",
        tolerance=None,
        comparisons=(),
        findings=tuple(findings),
        estimator=None,
        explanation=None,
        parameters={},
        notes=(),
        counterpart=None,
        fit=None,
    )
