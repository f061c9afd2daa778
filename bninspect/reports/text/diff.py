"""The screen of `diff`: what changed, and that the rest did not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bninspect.inspection.diff_layers import Verdict
from bninspect.records import codec
from bninspect.reports import Looks
from bninspect.reports.text.lines import Line, line, shown
from bninspect.reports.words import plural
from bninspect.safe_text import printable
from bninspect.version import __version__

if TYPE_CHECKING:
    from bninspect.inspection.diff_layers import LayerDifference
    from bninspect.inspection.diff_models import Difference

_INDENT = " " * 10
_STYLES = {
    Verdict.EQUAL: "green",
    Verdict.SAME_MAP: "green",
    Verdict.CHANGED: "bold red",
    Verdict.ADDED: "bold red",
    Verdict.REMOVED: "bold red",
}


def render(difference: Difference, looks: Looks) -> str:
    """Return the difference as text, with colours if `looks` wants them."""
    return shown(_lines(difference, looks), looks)


def as_json(difference: Difference) -> str:
    """Return the difference as JSON, like the reports: no NaN and no Infinity."""
    document = {"tool": {"name": "bninspect", "version": __version__}, **codec.encode(difference)}
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _lines(difference: Difference, looks: Looks) -> Iterator[Line]:
    counts = difference.counts
    said = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    word, style = ("SAME    ", "bold green") if difference.exit_code == 0 else ("CHANGED ", "bold red")
    paths = f"{printable(difference.before)} -> {printable(difference.after)}"
    yield line((word, style), f"{paths}: {plural(len(difference.layers), 'layer')}, {said}")
    for layer in difference.layers:
        if layer.verdict is Verdict.EQUAL and looks.verbosity < 1 and not layer.settings:
            continue
        if looks.verbosity >= 0 or layer.verdict not in {Verdict.EQUAL, Verdict.SAME_MAP}:
            yield from _layer(layer, looks)
    if difference.epsilon_not_compared:
        layers = plural(difference.epsilon_not_compared, "layer")
        yield line(("note      ", "cyan"), f"epsilon was not compared in {layers}: a file does not state it")


def _layer(layer: LayerDifference, looks: Looks) -> Iterator[Line]:
    name = printable(layer.after if layer.after is not None else layer.before or "")
    if layer.before is not None and layer.after is not None and layer.before != layer.after:
        name = f"{printable(layer.before)} -> {name} (by {layer.matched_by})"
    yield line(
        (f"{layer.verdict.value:<10}", _STYLES[layer.verdict]), (name, "bold"), f"  {plural(layer.channels, 'channel')}"
    )
    if looks.verbosity < 0:
        return
    for reason in layer.reasons:
        yield line(f"{_INDENT}{reason}")
    for setting, (old, new) in layer.settings.items():
        if setting == "momentum":
            yield line(f"{_INDENT}momentum {old:g} became {new:g}: training alone feels it")
    if layer.verdict is Verdict.CHANGED or looks.verbosity >= 1:
        for parameter, change in layer.parameters.items():
            most = f"largest {change.largest:.3g} in channel {change.channel}"
            values = f"{change.before:.7g} became {change.after:.7g}"
            yield line(f"{_INDENT}{parameter}: {change.count} of {layer.channels} values differ, {most}: {values}")
