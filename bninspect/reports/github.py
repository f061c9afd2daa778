"""GitHub workflow commands: one error for each model that fails, warnings and notices for what else was found.

Form and escapes: https://docs.github.com/actions/reference/workflow-commands-for-github-actions. GitHub draws at most
10 warnings and 10 notices of a step: findings of one rule in one model share one, the last says how many are left.
"""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import Finding, LayerReport, ModelReport, Report, Severity, Status
from bninspect.reports import counts, words
from bninspect.safe_text import printable

MOST = 10
_MOST_LINES = 8
_COMMANDS = {Severity.ERROR: "warning", Severity.WARNING: "warning", Severity.NOTE: "notice"}
"""What a finding becomes that does not fail its model."""


def render(report: Report) -> str:
    """Return the workflow commands, and below them the counts in one line."""
    threshold = counts.fail_on(report)
    lines = [line for model in report.models for line in _verdict(model, report, threshold)]
    others = [line for model in report.models for line in _others(model, threshold)]
    for command in ("warning", "notice"):
        lines.extend(_few(command, [line for line in others if line.startswith(f"::{command} ")]))
    return "\n".join([*lines, words.summary(report)]) + "\n"


def _verdict(model: ModelReport, report: Report, threshold: str) -> Iterator[str]:
    title = f"bninspect {report.command}: {model.status}"
    if model.status is Status.EMPTY:
        nothing_at_all = report.summary.status is Status.EMPTY and report.summary.exit_code
        yield _command("error" if nothing_at_all else "notice", model, title, [words.verdict(model)])
    elif model.status is not Status.PASS:
        reasons = list(_reasons(model, threshold))
        if len(reasons) > _MOST_LINES:
            left = len(reasons) - _MOST_LINES + 1
            reasons[_MOST_LINES - 1 :] = [f"and {words.plural(left, 'more reason')}"]
        yield _command("error", model, title, [*words.verdicts(model), *reasons])


def _reasons(model: ModelReport, threshold: str) -> Iterator[str]:
    if model.error:
        yield from words.reasons_of(model.error)
    for finding in model.findings:
        if counts.finding_counts(finding, model, threshold):
            yield f"{printable(finding.rule)} {words.message(finding.message)}"
    yield from words.unverified(model)
    for layer in model.layers:
        yield from _layer_reasons(layer, model, threshold)


def _layer_reasons(layer: LayerReport, model: ModelReport, threshold: str) -> list[str]:
    comparison, findings = counts.reasons(layer, model, threshold)
    said = [words.measured(comparison)] if comparison else []
    if comparison and layer.explanation:
        said += [f"cause: {line}" for line in words.causes(layer.explanation)[:1]]
    said += [f"{printable(finding.rule)} {words.message(finding.message)}" for finding in findings]
    if not said and counts.loaded_differently(layer, model, threshold):
        said = [words.unspoken(layer)]
    return [f"{printable(layer.name)}: {reason}" for reason in said]


def _others(model: ModelReport, threshold: str) -> Iterator[str]:
    """Return one line for each rule that found something which does not fail the model."""
    found: dict[str, list[tuple[LayerReport | None, Finding]]] = {}
    pairs: list[tuple[LayerReport | None, Finding]] = [(one, each) for one in model.layers for each in one.findings]
    for layer, finding in [*pairs, *((None, finding) for finding in model.findings)]:
        if finding.ignored is None and not counts.finding_counts(finding, model, threshold):
            found.setdefault(finding.rule, []).append((layer, finding))
    for rule, those in found.items():
        layers = [layer for layer, _ in those if layer is not None]
        first = those[0][1]
        where = f"{words.some(layers)}: " if layers else ""
        lines = [where + words.message(first.message)]
        if first.hint:
            lines.append(f"hint: {words.message(first.hint)}")
        yield _command(_COMMANDS[first.severity], model, f"bninspect: {printable(rule)}", lines)


def _few(command: str, lines: list[str]) -> list[str]:
    if len(lines) <= MOST:
        return lines
    left = words.plural(len(lines) - MOST + 1, f"further {command}")
    return [*lines[: MOST - 1], f"::{command} title=bninspect::{left} in the report"]


def _command(command: str, model: ModelReport, title: str, lines: list[str]) -> str:
    place = f"file={_property(printable(model.path, 1000))},title={_property(title)}"
    return f"::{command} {place}::{_data(chr(10).join(lines))}"


def _data(text: str) -> str:
    # `##[` and `##vso[` begin a command anywhere in a line for older runners and for Azure Pipelines.
    inert = text.replace("##", "#\\x23")
    return inert.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
