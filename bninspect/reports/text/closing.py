"""The last line of a screen: the verdict on the whole, what it does not cover, and the exit code in words."""

from __future__ import annotations

from collections import Counter

from bninspect.records import ModelReport, Report, Status
from bninspect.reports import Looks, words
from bninspect.reports.text.lines import Line, line

VERDICTS = {
    Status.PASS: ("PASS", "bold green"),
    Status.FAIL: ("FAIL", "bold red"),
    Status.ERROR: ("ERROR", "bold magenta"),
    Status.EMPTY: ("EMPTY", "bold yellow"),
}
_CODES = {
    0: "checked, and nothing fails",
    1: "checked, and something is wrong",
    2: "wrong usage",
    3: "something could not be checked",
    5: "there is nothing to check",
}
_ALLOWED = "there is nothing to check, which --allow-empty allows"


def closing(report: Report, looks: Looks) -> Line:
    """Return the verdict on all models of a report."""
    summary = report.summary
    allowed = not summary.exit_code and report.models and all(one.status is Status.EMPTY for one in report.models)
    word, style = VERDICTS[Status.EMPTY if allowed else summary.status]
    counts = Counter(model.status for model in report.models)
    models = words.plural(summary.models, "model")
    if summary.models > 1:
        models += ": " + ", ".join(f"{counts[status]:,} {status}" for status in VERDICTS if counts[status])
    parts = [models, *(_changes(report) if report.command == "compare" else _layers(report))]
    code, meaning = summary.exit_code, _ALLOWED if allowed else _CODES.get(summary.exit_code, "")
    if looks.unwritten:
        code, meaning = 3, f"{meaning}, but a file could not be written"
        word, style = VERDICTS[Status.ERROR] if not summary.exit_code else (word, style)
    return line((f"{word:<6}", style), f"{'; '.join(parts)}; exit {code}: {meaning}")


def _changes(report: Report) -> list[str]:
    """Return how many layers and models are worse, gone, better and new."""
    every = [finding for model in report.models for finding in model.findings]
    every += [finding for model in report.models for layer in model.layers for finding in layer.findings]
    counts = Counter(finding.message.partition(":")[0] for finding in every)
    return [", ".join(f"{count:,} {word}" for word, count in sorted(counts.items())) or "no changes"]


def _layers(report: Report) -> list[str]:
    """Return how many layers were verified, of how many, and what was not compared."""
    read = [model for model in report.models if not model.error]
    if report.command != "verify" or not read:
        return []
    layers = sum(map(words.total, read))
    return [f"{report.summary.verified:,} of {words.plural(layers, 'layer')} verified", *_reserves(read)]


def _reserves(models: list[ModelReport]) -> list[str]:
    """Return what the verdict does not rest on proof for, of all models together."""
    layers = [layer for model in models for layer in model.layers]
    counts = {
        "left out as asked": sum(model.left_out.count for model in models if model.left_out),
        "not read": sum(calls.count for model in models for calls in model.unread),
        "by tolerance, not by proof": sum(layer.tolerance is not None for layer in layers),
        "no worse than in the baseline": sum(bool(layer.known) for layer in layers),
    }
    compiled = sum(not calls.count for model in models for calls in model.unread)
    return [
        *(f"{count:,} {said}" for said, count in counts.items() if count),
        *[f"{words.plural(compiled, 'compiled part')} not read"] * bool(compiled),
    ]
