"""Whether the statistics of a model are those of data, for people at a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bninspect.records import DataFit, DataReport, LayerReport, LayerStatus, ModelReport
from bninspect.reports import Looks, drift_words, words
from bninspect.reports.text.lines import Line, line
from bninspect.safe_text import printable

_INDENT = " " * 6
_WORDS = {
    LayerStatus.VERIFIED: ("fits   ", "green"),
    LayerStatus.MISMATCH: ("DIFFERS", "bold red"),
    LayerStatus.UNVERIFIED: ("ERROR  ", "bold magenta"),
}


def lines(model: ModelReport, looks: Looks) -> Iterator[Line]:
    """Return the lines about the data, the layers that differ, and the cause; the verdict stands above them."""
    about = model.data
    if about is None:
        return
    if looks.verbosity >= 0:
        yield line(f"{_INDENT}{drift_words.data(about)}")
        yield line(f"{_INDENT}{drift_words.assumptions(model, about)}")
    yield from _layers(model, looks)
    if about.first:
        yield from _cause(about)
    if looks.verbosity >= 0:
        for text in drift_words.reserves(model):
            yield line((f"{_INDENT}notes: ", "cyan"), text)


def _layers(model: ModelReport, looks: Looks) -> Iterator[Line]:
    width = max((len(printable(layer.name)) for layer in model.layers), default=0)
    for layer in model.layers:
        if layer.fit is None or layer.status is None:
            continue
        shown = layer.status is LayerStatus.MISMATCH and not (layer.fit.inherited and looks.verbosity < 0)
        if (shown and not layer.known) or looks.verbosity >= 1:
            yield line(_WORDS[layer.status], f"  {printable(layer.name):<{width}}  {_figures(layer, layer.fit)}")
    fits = Counter(layer.status for layer in model.layers)[LayerStatus.VERIFIED]
    if looks.verbosity == 0 and fits and fits < len(model.layers):
        yield line(("fits   ", "green"), f"  {words.plural(fits, 'other layer')} (-v lists them)")


def _figures(layer: LayerReport, fit: DataFit) -> str:
    behind = f"  (inherited from {printable(fit.inherited)})" if fit.inherited else ""
    unverified = f"  {words.message(layer.reason)}" if layer.status is LayerStatus.UNVERIFIED else ""
    return f"{drift_words.figures(fit)}{behind}{unverified}"


def _cause(about: DataReport) -> Iterator[Line]:
    for number, text in enumerate(drift_words.cause(about)):
        label = (f"{_INDENT}       ", "") if number else (f"{_INDENT}cause  ", "bold")
        yield line(label, text)
