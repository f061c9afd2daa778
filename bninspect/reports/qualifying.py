"""What a verdict rests on besides proof, in the words of every format: tolerances, and what the baseline has."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import LayerReport, ModelReport
from bninspect.safe_text import printable

_LONGEST = 500


def qualification(model: ModelReport) -> str:
    """Return what must stand beside the verdict on a model; empty if it rests on proof alone."""
    tolerated = sum(layer.tolerance is not None for layer in model.layers)
    known = sum(bool(layer.known) for layer in model.layers)
    parts = [f"{tolerated} by tolerance, not by proof"] * bool(tolerated)
    parts += [f"{known} no worse than in the baseline"] * bool(known)
    unread = sum(calls.count for calls in model.unread)
    parts += [f"{unread} more not read"] * bool(unread)
    return f", {', '.join(parts)}" if parts else ""


def explained(model: ModelReport) -> Iterator[str]:
    """Yield one line for each tolerance, and one for each reason for which something that is wrong does not fail."""
    for tolerance in dict.fromkeys(layer.tolerance for layer in model.layers if layer.tolerance):
        layers = [layer for layer in model.layers if layer.tolerance == tolerance]
        reason = f": {printable(tolerance.reason, _LONGEST)}" if tolerance.reason else ""
        yield f"{_some(layers)} by tolerance (rtol {tolerance.rtol:g}, atol {tolerance.atol:g}), not by proof{reason}"
    for known in dict.fromkeys(layer.known for layer in model.layers if layer.known):
        yield f"{_some([layer for layer in model.layers if layer.known == known])}: {printable(known, _LONGEST)}"
    for calls in model.unread:
        if calls.known:
            yield f"batch norms in {printable(calls.where)}: {printable(calls.known, _LONGEST)}"


def _some(layers: list[LayerReport]) -> str:
    others = len(layers) - 1
    rest = f" and {others} other layer{'' if others == 1 else 's'}" if others else ""
    return printable(layers[0].name) + rest
