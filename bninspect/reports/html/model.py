"""A model on the page: its verdict and why, its findings, the table of its layers, and each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bninspect.records import Finding, LayerReport, LayerStatus, ModelReport, Status
from bninspect.reports import counts as counting
from bninspect.reports import equivalence_words
from bninspect.reports import words as wording
from bninspect.reports.html import charts, data, depth, equivalence, layer, why
from bninspect.reports.html.element import Child, Markup, code, element, facts, joined, table
from bninspect.safe_text import printable

COLOURS = {
    LayerStatus.VERIFIED: "#228833",
    LayerStatus.MISMATCH: "#cc3311",
    LayerStatus.UNVERIFIED: "#aa3377",
}
_MOST_UNFOLDED = 6
_MOST_RULES = 60

_MOST_REASONS = 4
_MOST_ROWS = 1000
"""Layers in the table of a model; the others are in the JSON report."""


@dataclass(frozen=True)
class Shown:
    """What of a model the page shows."""

    model: ModelReport
    anchor: str
    threshold: str
    rerun: str
    """The command that makes this part of the report again."""
    alone: bool
    """Whether it is the only model of the page."""

    @property
    def failing(self) -> list[int]:
        """The places of the layers that count against the model."""
        layers = enumerate(self.model.layers)
        return [place for place, one in layers if counting.layer_counts(one, self.model, self.threshold)]


def section(shown: Shown, details: Mapping[int, Markup]) -> Markup:
    """Return the part of the page about a model, with the details of those layers for which there is room."""
    model = shown.model
    heading = element("h2", badge(model.status), " ", code(model.path, 500))
    failing = set(shown.failing)
    body = element(
        "div",
        None if shown.alone else reasons(model, shown.threshold),
        [element("p", line, class_="verdict") for line in wording.verdicts(model)],
        [element("p", wording.unread(calls), class_="note") for calls in model.unread if not calls.known],
        [element("p", line, class_="note") for line in wording.qualifications(model)],
        [element("p", wording.message(note), class_="note") for note in model.notes],
        data.section(model),
        _overview(shown),
        _findings(model),
        _layers(model, shown.anchor, failing, set(details)),
        equivalence.section(model),
        [details[place] for place in sorted(details, key=lambda place: (place not in failing, place))],
        _left_out(len(model.layers) - len(details)),
        element("p", "This part of the report, again:", class_="note"),
        element("pre", shown.rerun),
        id=shown.anchor,
    )
    opened = shown.alone or model.status is not Status.PASS
    return element("details", element("summary", heading), body, open=opened, class_=f"model {model.status.value}")


def layer_details(shown: Shown, place: int) -> Markup:
    """Return the details of a layer, unfolded if it is among the first that fail."""
    unfolded = (shown.failing or _furthest(shown.model))[:_MOST_UNFOLDED]
    return layer.details(shown.model.layers[place], f"{shown.anchor}-{place}", unfolded=place in unfolded)


def reasons(model: ModelReport, threshold: str) -> Markup | None:
    """Return why a model did not pass, and what mends it; None if it passed."""
    found = why.reasons(model, threshold)
    if not found:
        return None
    hint = why.hint(model, threshold)
    more = len(found) - _MOST_REASONS
    items = [element("li", line) for line in found[:_MOST_REASONS]]
    items += [element("li", f"and {wording.plural(more, 'more reason')}, below")] if more > 0 else []
    return element(
        "div",
        element("ul", items),
        element("p", f"hint: {hint}", class_="hint") if hint else None,
        class_="why",
    )


def _overview(shown: Shown) -> Markup:
    """Return the picture over the depth beside what is known of the file."""
    drawn = depth.picture(shown.model, shown.threshold)
    title = "Over the depth of the network. A bar reaches from the smallest to the largest channel; dark: the median."
    figure = element("figure", element("figcaption", title), drawn) if drawn else None
    return element("div", figure, facts(_facts(shown.model)), class_="overview")


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


def _furthest(model: ModelReport) -> list[int]:
    """Return the place of the layer that is the nearest to its limit, as an example of what there is to see."""
    places = range(len(model.layers))
    return [max(places, key=lambda place: counting.distance_of(model.layers[place]))] if model.layers else []


def _facts(model: ModelReport) -> Iterator[tuple[str, Child]]:
    if model.writer or model.format:
        yield "written by", printable(model.writer) or "unknown writer"
        yield "format", printable(model.format)
        yield "size", f"{model.bytes:,} bytes"
    if model.layers:
        channels = wording.plural(sum(one.channels for one in model.layers), "channel")
        yield "batch norm", f"{wording.plural(len(model.layers), 'layer')}, {channels}"
    if model.runtime:
        yield "runtime", printable(model.runtime)
    if model.evidence:
        alone = "the framework's own layers ran on the parameters that were read"
        whole = "the framework loaded the file itself and ran it"
        yield "evidence", f"{model.evidence.value}: {whole if model.evidence.value == 'model' else alone}"
    compared = sum(comparison.elements for each in model.layers for comparison in each.comparisons)
    if compared:
        yield "compared", f"{compared:,} values"
    yield "took", f"{model.seconds:.1f} s"
    if model.sha256:
        yield "sha256", code(model.sha256)


def _findings(model: ModelReport) -> Markup | None:
    """Return what was found, by rule: the first finding, and in how many layers there is one."""
    found: dict[str, list[tuple[LayerReport | None, Finding]]] = {}
    for finding in model.findings:
        found.setdefault(finding.rule, []).append((None, finding))
    for each in model.layers:
        for finding in each.findings:
            found.setdefault(finding.rule, []).append((each, finding))
    if not found:
        return None
    items = []
    for pairs in list(found.values())[:_MOST_RULES]:
        layers = [each for each, _ in pairs if each is not None]
        cause = layer.cause_of(*pairs[0]) if layers else None
        items.append(layer.finding_item(pairs[0][1], wording.some(layers) if layers else "", cause))
    return joined(element("h3", "Findings"), element("ul", items, class_="findings"))


def _layers(model: ModelReport, anchor: str, failing: set[int], detailed: set[int]) -> Markup | None:
    if not model.layers:
        return None
    was_run = any(one.status for one in model.layers)
    drawn = any(not found.agrees for one in model.layers for found in one.comparisons)
    measured = ["values", "worst error", *(["by channel"] if drawn else [])] if was_run else []
    exported = ["in the export"] if model.against else []
    head = [
        "layer",
        "in its runtime" if exported else "status",
        *exported,
        "channels",
        "epsilon",
        *measured,
        "findings",
    ]
    ordered = sorted(range(len(model.layers)), key=lambda place: (place not in failing, place))
    rows = []
    for place in ordered[:_MOST_ROWS]:
        one, name = equivalence_words.layer_alone(model.layers[place]), code(model.layers[place].name)
        first = element("a", name, href=f"#{anchor}-{place}") if place in detailed else name
        found = model.layers[place].counterpart
        status = [layer.badge(one), *([equivalence.badge(found) if found else "-"] if exported else [])]
        measures = _measured(model.layers[place], drawn=drawn) if was_run else ()
        rows.append([first, *status, *_settings(one), *measures, wording.rules(model.layers[place]) or "-"])
    caption = f"The batch-norm layers of {printable(model.path, 500)}{', failures first' if failing else ''}"
    more = len(ordered) - _MOST_ROWS
    return joined(
        element("h3", "Layers"),
        table(head, rows, caption=caption, class_="status layers"),
        element("p", f"{wording.plural(more, 'layer')} more: see the JSON report.") if more > 0 else None,
    )


def _settings(one: LayerReport) -> list[Child]:
    return [f"{one.channels:,}", "unknown" if one.epsilon is None else f"{one.epsilon:g}"]


def _measured(one: LayerReport, *, drawn: bool) -> list[Child]:
    """Return how many values were compared and how far they are off; by channel only where a layer is wrong."""
    worst = counting.furthest(one)
    if worst is None:
        return ["0", "-", *(["-"] if drawn else [])]
    values = sum(each.elements for each in one.comparisons)
    spark = None if worst.agrees else charts.spark(worst.channel_ratios, one.channels)
    return [f"{values:,}", wording.ratio(worst), *([spark] if drawn else [])]


def _left_out(number: int) -> Markup | None:
    if number <= 0:
        return None
    text = f"{wording.plural(number, 'layer')} without details, for which this page has no room: see the JSON report."
    return element("p", text, class_="note")
