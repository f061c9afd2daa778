"""The export on the page: what it is, and what became of every batch norm in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from bninspect.records import Comparison, Counterpart, Export, LayerStatus, ModelReport
from bninspect.records.limit_words import of_limit
from bninspect.reports import equivalence_words, words
from bninspect.reports.html.element import Child, Markup, code, element, facts, joined, table
from bninspect.safe_text import printable

_MEASURED = ("weights", "bias", "output")
_ULP = "in ulp"
_COLUMNS: Mapping[str, Callable[[Comparison], str]] = {
    "values": lambda found: f"{found.elements:,}",
    "over the limit": lambda found: f"{found.violations:,}",
    "worst": words.ratio,
    "largest difference": lambda found: "-" if found.max_abs is None else f"{found.max_abs:.3g}",
    _ULP: lambda found: "-" if found.max_ulp is None else f"{found.max_ulp:.3g}",
    "not finite": lambda found: f"{found.nonfinite:,}",
}
"""What a table says of a comparison."""


def section(model: ModelReport) -> Markup | None:
    """Return the part about the export that a model was held against; None without one."""
    export = model.against
    if export is None:
        return None
    found = [(layer.name, layer.counterpart) for layer in model.layers if layer.counterpart is not None]
    found.sort(key=lambda pair: pair[1].status is LayerStatus.VERIFIED)  # failures first, each kind in its order
    head = ("layer", "status", *_MEASURED, "where, or why not")
    rows = [(code(name), badge(one), *_measured(one), _where(one)) for name, one in found]
    caption = "What became of each batch norm in the export, failures first"
    return joined(
        element("h3", "In the export"),
        facts(_facts(export)),
        table(head, rows, caption=caption, class_="status export") if rows else None,
        _outputs(export.outputs) if export.outputs else None,
        [element("p", words.message(note), class_="note") for note in export.notes],
    )


def details(counterpart: Counterpart) -> Markup:
    """Return what became of one layer in the export."""
    return element(
        "section",
        element("h4", "In the export"),
        element("p", equivalence_words.where(counterpart) or words.message(counterpart.sentence)),
        _compared(counterpart.comparisons) if counterpart.comparisons else None,
        element(
            "ul", [element("li", f"cause: {line}") for line in equivalence_words.reasons(counterpart)], class_="cause"
        ),
    )


def badge(counterpart: Counterpart) -> Markup:
    """Return what became of a layer in the export, as a word."""
    return element("span", counterpart.status.value, class_=f"badge {counterpart.status.value}")


def _facts(export: Export) -> Iterator[tuple[str, Child]]:
    yield "file", code(export.path, 500)
    yield "written by", printable(export.writer) or "unknown writer"
    yield "format", printable(export.format)
    yield "size", f"{export.bytes:,} bytes"
    yield "runtime", printable(export.runtime) if export.runtime else "none: it was not run"
    if export.sha256:
        yield "sha256", code(export.sha256)


def _measured(counterpart: Counterpart) -> Iterator[str]:
    ratios = {comparison.observed: of_limit(comparison.ratio) for comparison in counterpart.comparisons}
    return (ratios.get(name, "-") for name in _MEASURED)


def _where(counterpart: Counterpart) -> str:
    if counterpart.status is LayerStatus.VERIFIED:
        return equivalence_words.where(counterpart)
    return words.message(f"{equivalence_words.where(counterpart)}: {counterpart.sentence}".removeprefix(": "))


def _outputs(outputs: tuple[Comparison, ...]) -> Markup:
    return joined(element("h4", "Outputs of both models"), _compared(outputs))


def compared(named: Iterable[tuple[str, Comparison]], caption: str, *, ulp: bool = False) -> Markup:
    """Return a table of comparisons by name, with the difference in steps of the type if `ulp`."""
    columns = {title: cell for title, cell in _COLUMNS.items() if ulp or title != _ULP}
    rows = [(printable(name), *(cell(found) for cell in columns.values())) for name, found in named]
    return table(("", *columns), rows, caption=caption)


def _compared(comparisons: tuple[Comparison, ...]) -> Markup:
    named = [(comparison.observed, comparison) for comparison in comparisons]
    return compared(named, "The export, against what the model makes of the same numbers")
