"""The screen of `recalibrate`: what became of each layer."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records.recalibrated import Recalibrated
from bninspect.reports import Looks
from bninspect.reports.drift_words import number
from bninspect.reports.text.lines import Line, line, shown
from bninspect.reports.words import plural
from bninspect.safe_text import printable

_INDENT = " " * 6


def render(done: Recalibrated) -> str:
    """Return what became of a model as text."""
    return shown(_lines(done), Looks())


def _lines(done: Recalibrated) -> Iterator[Line]:
    layers = plural(len(done.layers), "layer")
    yield line(("WROTE ", "bold green"), f"{printable(done.output)}: the statistics of {layers} are those of the data")
    way = "one after the other" if done.passes == 2 or done.depths == 1 else "a pass for each"
    depths = f"{plural(done.depths, 'depth')} ({way}) and a last pass in batches of {done.batch}"
    yield line(f"{_INDENT}{plural(done.samples, 'sample')} of {printable(done.data)}, {depths}, {done.seconds:.1f} s")
    width = max(len(printable(layer.name)) for layer in done.layers)
    for layer in done.layers:
        moved = f"mean moved by {number(layer.mean_moved)} deviations at most, log variance by "
        moved += number(layer.variance_moved)
        off = f"a last pass is off by {number(layer.mean_off)} and {number(layer.variance_off)}"
        yield line(f"{_INDENT}{printable(layer.name):<{width}}  {moved}; {layer.estimator} variance; {off}")
    for note in done.notes:
        yield line((f"{_INDENT}notes: ", "cyan"), printable(note, 500))
