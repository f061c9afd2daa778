"""A model on the page: its verdict and why, its findings, the table of its layers, and each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bninspect.records import Finding, LayerReport, LayerStatus, ModelReport, Status
from bninspect.reports import conversion_words
from bninspect.reports import counts as counting
from bninspect.reports import words as wording
from bninspect.reports.html import charts, conversion, data, layer
from bninspect.reports.html.element import Child, Markup, code, element, facts, joined, table
from bninspect.safe_text import printable

COLOURS = {
    LayerStatus.VERIFIED: "#228833",
    LayerStatus.MISMATCH: "#cc3311",
    LayerStatus.UNVERIFIED: "#aa3377",
}
_MOST_UNFOLDED = 6
_MOST_RULES = 60

Allowed = Callable[[LayerReport], bool]
"""Whether the page still has room for the details of a layer."""


def section(model: ModelReport, anchor: str, threshold: str, allowed: Allowed) -> Markup:
    """Return the part of the page about a model."""
    failing = [one for one in model.layers if counting.layer_counts(one, model, threshold)]
    detailed = [index for index, one in enumerate(model.layers) if allowed(one)]
    unfolded = {id(one) for one in (failing or _furthest(model))[:_MOST_UNFOLDED]}
    return element(
        "section",
        element("h2", badge(model.status), " ", code(model.path, 500)),
        [element("p", line, class_="verdict") for line in wording.verdicts(model)],
        _error(model),
        facts(_facts(model)),
        [element("p", wording.unread(calls), class_="note") for calls in model.unread if not calls.known],
        [element("p", line, class_="note") for line in wording.qualifications(model)],
        [element("p", wording.message(note), class_="note") for note in model.notes],
        _findings(model),
        _layers(conversion_words.alone(model, threshold), anchor, set(detailed)) if model.layers else None,
        data.section(model),
        conversion.section(model),
        [
            layer.details(model.layers[index], f"{anchor}-{index}", unfolded=id(model.layers[index]) in unfolded)
            for index in detailed
        ],
        _left_out(len(model.layers) - len(detailed)),
        id=anchor,
        class_="model",
    )


def badge(status: Status) -> Markup:
    """Return the verdict as a word."""
    return element("span", status.value.upper(), class_=f"badge verdict {status.value}")


def coverage(layers: list[LayerReport]) -> Markup | None:
    """Return how many layers came out how, drawn and in words; None if nothing was run."""
    counts = [(status, sum(one.status is status for one in layers)) for status in LayerStatus]
    if not any(number for _, number in counts):
        return None
    words = [element("li", element("b", f"{number:,}"), f" {one.value}", class_=one.value) for one, number in counts]
    bar = charts.shares([(status.value, number, COLOURS[status]) for status, number in counts])
    return element("div", bar, element("ul", words), class_="coverage")


def _furthest(model: ModelReport) -> list[LayerReport]:
    """Return the layer that is the furthest from the formula, or the first, as an example of what there is to see."""
    return [max(model.layers, key=_distance)] if model.layers else []


def _distance(one: LayerReport) -> float:
    worst = counting.worst_comparison(one)
    return counting.distance(worst) if worst else -1.0


def _error(model: ModelReport) -> Markup | None:
    if model.error is None:
        return None
    texts = (("why", model.error.why), ("hint", model.error.hint))
    return element("ul", [element("li", f"{word}: {wording.message(text)}") for word, text in texts if text])


def _facts(model: ModelReport) -> Iterator[tuple[str, Child]]:
    if model.writer or model.format:
        yield "written by", printable(model.writer) or "unknown writer"
        yield "format", printable(model.format)
        yield "size", f"{model.bytes:,} bytes"
    if model.layers:
        yield "batch norm", f"{wording.plural(len(model.layers), 'layer')}, {_channels(model)}"
    if model.runtime:
        yield "runtime", printable(model.runtime)
    if model.evidence:
        alone = "the framework's own layers ran on the parameters that were read"
        whole = "the framework loaded the file itself and ran it"
        yield "evidence", f"{model.evidence.value}: {whole if model.evidence.value == 'model' else alone}"
    compared = sum(one.elements for each in model.layers for one in each.comparisons)
    if compared:
        yield "compared", f"{compared:,} values"
    yield "took", f"{model.seconds:.1f} s"
    if model.sha256:
        yield "sha256", code(model.sha256)


def _channels(model: ModelReport) -> str:
    return wording.plural(sum(one.channels for one in model.layers), "channel")


def _findings(model: ModelReport) -> Markup | None:
    """Return what was found, by rule: the first finding, and in how many layers there is one."""
    found: dict[str, list[tuple[LayerReport | None, Finding]]] = {}
    for one in model.findings:
        found.setdefault(one.rule, []).append((None, one))
    for each in model.layers:
        for one in each.findings:
            found.setdefault(one.rule, []).append((each, one))
    if not found:
        return None
    items = []
    for pairs in list(found.values())[:_MOST_RULES]:
        layers = [each for each, _ in pairs if each is not None]
        cause = layer.cause_of(*pairs[0]) if layers else None
        items.append(layer.finding_item(pairs[0][1], wording.some(layers) if layers else "", cause))
    return joined(element("h3", "Findings"), element("ul", items, class_="findings"))


def _layers(model: ModelReport, anchor: str, detailed: set[int]) -> Markup:
    was_run = any(one.status for one in model.layers)
    measured = ["values", "worst error", "by channel"] if was_run else []
    head = ["layer", "status", "channels", "epsilon", *measured, "findings"]
    rows = []
    for index, one in enumerate(model.layers):
        name = code(one.name)
        first = element("a", name, href=f"#{anchor}-{index}") if index in detailed else name
        rows.append([first, *_settings(one), *(_measured(one) if was_run else ()), _rules(one)])
    caption = f"The batch-norm layers of {printable(model.path, 500)}"
    return joined(element("h3", "Layers"), table(head, rows, caption=caption, class_="status"))


def _settings(one: LayerReport) -> list[Child]:
    return [layer.badge(one), f"{one.channels:,}", "unknown" if one.epsilon is None else f"{one.epsilon:g}"]


def _measured(one: LayerReport) -> list[Child]:
    worst = counting.worst_comparison(one)
    if worst is None:
        return ["0", "-", "-"]
    values = sum(each.elements for each in one.comparisons)
    return [f"{values:,}", wording.ratio(worst), charts.spark(worst.channel_ratios, one.channels)]


def _rules(one: LayerReport) -> str:
    rules = dict.fromkeys(finding.rule for finding in one.findings if finding.ignored is None)
    return printable(" ".join(rules)) or "-"


def _left_out(number: int) -> Markup | None:
    if number <= 0:
        return None
    text = f"{wording.plural(number, 'layer')} without details, for which this page has no room: see the JSON report."
    return element("p", text, class_="note")
