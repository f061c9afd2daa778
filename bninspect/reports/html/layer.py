"""A layer on the page: its findings, its comparisons with the formula, and its parameters, each drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bninspect.records import (
    PARAMETERS,
    Comparison,
    Explanation,
    Finding,
    LayerReport,
    LayerStatus,
    Statistics,
    Worst,
)
from bninspect.reports import counts, equivalence_words, words
from bninspect.reports.html import charts, equivalence, rules
from bninspect.reports.html.element import Child, Markup, code, element, facts, joined, table
from bninspect.safe_text import printable

_NUMBERS = ("min", "5 %", "25 %", "median", "75 %", "95 %", "max")


def details(layer: LayerReport, anchor: str, *, unfolded: bool) -> Markup:
    """Return everything that is known of a layer, to unfold."""
    worst = counts.worst_comparison(layer)
    margin = f" {words.ratio(worst)}" if worst else None
    heading = element(
        "summary",
        element("h3", code(layer.name)),
        " ",
        badge(equivalence_words.layer_alone(layer)),
        margin,
        (", in the export ", equivalence.badge(layer.counterpart)) if layer.counterpart else None,
    )
    body = element(
        "div",
        element("p", words.message(layer.reason)) if layer.status is LayerStatus.UNVERIFIED else None,
        element("p", words.message(layer.known), class_="note") if layer.known else None,
        facts(_facts(layer)),
        findings(layer.findings),
        [element("p", words.message(note), class_="note") for note in layer.notes],
        _comparisons(layer) if layer.comparisons else None,
        equivalence.details(layer.counterpart) if layer.counterpart else None,
        _parameters(layer) if layer.parameters else None,
        id=anchor,
    )
    return element("details", heading, body, open=unfolded, class_="layer")


def badge(layer: LayerReport) -> Markup:
    """Return the status of a layer as a word; for commands that only read, its severest finding."""
    if layer.status is not None:
        return element("span", layer.status.value, class_=f"badge {layer.status.value}")
    found = [finding.severity for finding in layer.findings if finding.ignored is None]
    severest = next((severity for severity in words.SEVERITIES if severity in found), None)
    return element("span", severest.value if severest else "no findings", class_=f"badge {severest or 'verified'}")


def findings(found: Iterable[Finding]) -> Markup | None:
    """Return findings with their hints; those that the options leave out say so."""
    items = [finding_item(finding) for finding in found]
    return element("ul", items, class_="findings") if items else None


def cause_of(layer: LayerReport | None, finding: Finding) -> str | None:
    """Return the likeliest cause of the difference that a finding is about; None if it is about none."""
    if layer is None or layer.explanation is None or "observed" not in finding.evidence:
        return None
    return words.causes(layer.explanation)[0]


def finding_item(finding: Finding, where: str = "", cause: str | None = None) -> Markup:
    """Return what a finding says, the layers in which it was made, and the cause of what it is about."""
    ignored = "" if finding.ignored is None else f" (ignored: {words.message(finding.ignored)})"
    return element(
        "li",
        element("span", finding.severity.value, class_=f"badge {finding.severity.value}"),
        " ",
        element("a", element("b", printable(finding.rule)), href=rules.address(finding.rule)),
        f" {where}: " if where else " ",
        f"{words.message(finding.message)}{ignored}",
        element("div", f"cause: {cause}") if cause else None,
        element("div", f"hint: {words.message(finding.hint)}", class_="hint") if finding.hint else None,
        class_="ignored" if finding.ignored is not None else None,
    )


def _facts(layer: LayerReport) -> Iterator[tuple[str, Child]]:
    source = f" ({layer.epsilon_source})" if layer.epsilon_source not in (None, "file") else ""
    yield "channels", f"{layer.channels:,}"
    yield "epsilon", "unknown" if layer.epsilon is None else f"{layer.epsilon:g}{printable(source)}"
    yield "axis", "unknown" if layer.axis is None else str(layer.axis)
    yield "momentum", "unknown" if layer.momentum is None else f"{layer.momentum:g}"
    yield "type", printable(layer.dtype)
    without = [name for name, there in (("gamma", layer.scale), ("beta", layer.center)) if not there]
    if without:
        yield "without", ", ".join(without)
    if layer.statistics in {Statistics.BATCH, Statistics.SAMPLE}:
        yield "normalises by", f"statistics of each {layer.statistics.value}"
    if layer.statistics is Statistics.COMPUTED:
        yield "normalises by", "what the graph computes, or takes as inputs"
    if layer.tolerance is not None:
        why = f" ({words.message(layer.tolerance.reason)})" if layer.tolerance.reason else ""
        yield "judged by", f"rtol {layer.tolerance.rtol:g}, atol {layer.tolerance.atol:g}{why}"
    if layer.estimator is not None:
        yield "a training step averages", f"the {layer.estimator.value} variance"
    if layer.class_name:
        yield "class", code(layer.class_name)
    if layer.location:
        yield "in the file", code(layer.location, 500)


def _comparisons(layer: LayerReport) -> Markup:
    named = [(comparison.title, comparison) for comparison in layer.comparisons]
    worst = counts.worst_output(layer)
    wrong = [
        comparison for comparison in layer.comparisons if not comparison.agrees
    ]  # the shape of rounding noise tells nobody anything
    return element(
        "section",
        _cause(layer.explanation) if layer.explanation else None,
        element("h4", "Against the formula"),
        equivalence.compared(named, "What the runtime computed, against the formula", ulp=True),
        element("div", [_drawn(one, layer.channels) for one in wrong], class_="charts") if wrong else None,
        _arithmetic(worst, worst.worst) if worst and worst.worst else None,
        _worst_channels(worst) if wrong and worst and worst.worst_channels else None,
    )


def _drawn(comparison: Comparison, channels: int) -> Markup | None:
    chart = charts.ratios(comparison.channel_ratios, printable(comparison.title), channels)
    return _figure(chart, f"error / bound by channel, {printable(comparison.title)}")


def _arithmetic(comparison: Comparison, worst: Worst) -> Markup:
    expression, _, result = words.by_hand(worst).rpartition(" = ")
    lines = [f"by hand  {expression}", f"       = {result}", f"runtime  {words.number(worst.actual)}"]
    if worst.actual is not None and worst.expected is not None and worst.bound is not None:
        difference = abs(worst.actual - worst.expected)
        lines.append(f"apart    {difference:.3g}, the bound is {worst.bound:.3g}: {words.ratio(comparison)}")
    place = f"channel {worst.channel}, index {list(worst.index)}, {printable(comparison.title)}"
    return joined(
        element("h4", "The value that is the nearest to its limit" if comparison.agrees else "The worst value"),
        element("p", place, class_="note"),
        element("pre", "\n".join(lines)),
    )


def _cause(explanation: Explanation) -> Markup:
    items = [element("li", line) for line in words.causes(explanation)]
    return joined(element("h4", "The cause"), element("ul", items, class_="cause"))


def _worst_channels(comparison: Comparison) -> Markup:
    rows = [
        (
            str(channel.channel),
            "not finite" if channel.ratio is None else f"{channel.ratio:.3g}",
            *(
                words.number(value, 6)
                for value in (channel.gamma, channel.beta, channel.moving_mean, channel.moving_variance)
            ),
        )
        for channel in comparison.worst_channels
    ]
    head = ("channel", "error / bound", *PARAMETERS)
    return table(head, rows, caption=f"The channels that are the furthest off, {printable(comparison.title)}")


def _parameters(layer: LayerReport) -> Markup:
    names = [name for name in PARAMETERS if name in layer.parameters]
    rows = []
    for name in names:
        values = layer.parameters[name]
        numbers = (values.minimum, *values.quantiles, values.maximum)
        rows.append(
            (name, *("-" if number is None else f"{number:.4g}" for number in numbers), f"{values.nonfinite:,}")
        )
    return element(
        "section",
        element("h4", "Parameters"),
        table(("", *_NUMBERS, "not finite"), rows, caption="Parameters as the file holds them"),
        element("div", [_parameter(layer, name) for name in names], class_="charts"),
    )


def _parameter(layer: LayerReport, name: str) -> Markup:
    values = layer.parameters[name]
    epsilon = layer.epsilon if name == "moving_variance" else None
    axis = ", log axis" if values.log_counts else ""
    line = f", dashed: epsilon {epsilon:g}" if epsilon and values.log_counts else ""
    return joined(
        _figure(charts.strip(values, name, layer.channels, epsilon), f"{name} by channel{axis}{line}"),
        _figure(charts.histogram(values, name, epsilon), f"{name}, how often{axis}{line}"),
    )


def _figure(chart: Markup | None, caption: str) -> Markup | None:
    return element("figure", element("figcaption", caption), chart) if chart else None
