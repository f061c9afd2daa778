"""The screen of `diff`: what changed, and that the rest did not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bninspect.inspection.diff_layers import LayerDifference, Verdict
from bninspect.reports import Looks
from bninspect.reports.text.lines import Line, line, shown
from bninspect.reports.words import plural, unread
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.inspection.diff_models import Difference

_INDENT = " " * 10
_WORDS = {
    0: ("SAME    ", "bold green", "the parameters are the same"),
    1: ("CHANGED ", "bold red", "the parameters are not the same"),
    3: ("OPEN    ", "bold yellow", "something could not be compared"),
}
_STYLES = {
    Verdict.EQUAL: "green",
    Verdict.SAME_MAP: "green",
    Verdict.UNSTATED: "bold yellow",
    Verdict.CHANGED: "bold red",
    Verdict.ADDED: "bold red",
    Verdict.REMOVED: "bold red",
}


def render(difference: Difference, looks: Looks) -> str:
    """Return the difference as text, with colours if `looks` wants them."""
    return shown(_lines(difference, looks), looks)


def _lines(difference: Difference, looks: Looks) -> Iterator[Line]:
    for layer in difference.layers:
        if layer.verdict is Verdict.EQUAL and looks.verbosity < 1 and not layer.settings:
            continue
        if looks.verbosity >= 0 or layer.verdict not in {Verdict.EQUAL, Verdict.SAME_MAP}:
            yield from _layer(layer, looks)
    if difference.counts[Verdict.UNSTATED]:
        yield line(("hint      ", "cyan"), f"--epsilon VALUE supplies it{_if_the_same(difference)}")
    if difference.epsilon_not_compared:
        layers = plural(difference.epsilon_not_compared, "layer")
        yield line(("note      ", "cyan"), f"epsilon was not compared in {layers}: neither file states it")
    for calls in difference.unread:
        yield line(("unread    ", "bold yellow"), unread(calls))
    yield from _noted(difference)
    yield _closing(difference)


def _closing(difference: Difference) -> Line:
    counts = difference.counts
    said = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    code = difference.exit_code
    word, style, meaning = _WORDS[code]
    paths = f"{printable(difference.before)} -> {printable(difference.after)}"
    layers = plural(len(difference.layers), "layer")
    return line((word, style), f"{paths}: {layers}, {said}; exit {code}: {meaning}")


def _if_the_same(difference: Difference) -> str:
    stated = [value for layer in difference.layers for value in layer.unstated.get("epsilon", ()) if value is not None]
    return f": --epsilon {stated[0]:g} if it is the same" if stated else ""


def _noted(difference: Difference) -> Iterator[Line]:
    """Yield what one file alone says, and the output may depend on, once for all layers."""
    for name, said in (("statistics", "mode"), ("training", "mode"), ("axis", "axis")):
        layers = [layer for layer in difference.layers if name in layer.unstated]
        if layers:
            some = plural(len(layers), "layer")
            yield line(("note      ", "cyan"), f"the {said} was not compared in {some}: {_alone(layers[0], name)}")


def _alone(layer: LayerDifference, name: str) -> str:
    """Return what one file says of a setting of a layer, and which one does not say it."""
    old, new = layer.unstated[name]
    value, where, lacking = (new, "B", "A") if old is None else (old, "A", "B")
    said = {
        "statistics": f"{value} statistics at inference",
        "training": "training=True is hard-wired (BN124)" if value else "training is left to the caller",
        "axis": f"axis {', '.join(map(str, value)) if isinstance(value, tuple) else value}",
    }[name]
    return f"{lacking} does not state it; {where}: {said}"


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
