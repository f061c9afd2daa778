"""What the terminal shows of a layer that is not what the formula says: the diff, the arithmetic, the cause."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bninspect.records import Comparison, Explanation, LayerReport
from bninspect.records.limit_words import of_limit
from bninspect.reports import Looks, words
from bninspect.reports.counts import OUTPUTS
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural, some
from bninspect.safe_text import printable

INDENT = " " * 6
_MOST_TIES = 4
_MOST_CHANNELS = 5
_BARS = "▁▂▃▄▅▆▇█"
_DECADES = 6.0
"""What the bar spans: a full block is a million times the bound, and more."""


def mismatch(layer: LayerReport, looks: Looks, alike: Sequence[LayerReport] = ()) -> Iterator[Line]:
    """Return the rich diff of a layer: what was over the limit, and the arithmetic of the worst element.

    Args:
        layer: the layer.
        looks: how it is shown.
        alike: further layers that have the same cause; this one stands for them.
    """
    wrong = [
        comparison for comparison in layer.comparisons if not comparison.agrees and comparison.reference in OUTPUTS
    ]
    stored = {
        comparison.reference: None
        for comparison in layer.comparisons
        if not comparison.agrees and comparison.reference not in OUTPUTS
    }
    worst = max(wrong, key=lambda one: one.ratio if one.ratio is not None else float("inf"), default=None)
    headline = "the runtime holds something else than the file"
    if worst:
        headline = words.measured(worst)
    elif stored:
        headline = f"a training step stores another {' and another '.join(stored)}"
    word = ("known ", "yellow") if layer.known else ("FAIL  ", "bold red")
    yield line(word, (printable(layer.name), "bold"), f"   {headline}")
    if worst and worst.worst:
        yield line((f"{INDENT}by hand    ", "dim"), words.by_hand(worst.worst, 6))
        yield line((f"{INDENT}runtime    ", "dim"), words.number(worst.worst.actual, 6))
        yield from _worst_channels(worst)
        if looks.verbosity >= 1:
            yield from _bar(worst)
    if layer.explanation is not None:
        yield from _causes(layer.explanation, len(alike))
        yield from _hint(layer)
    if alike:
        yield line((f"{INDENT}also       ", "dim"), f"the same cause in {some(alike)} (-v shows each)")


def _worst_channels(comparison: Comparison) -> Iterator[Line]:
    """Return one line with the worst channels, the worst first, and how far each is beyond its bound."""
    beyond = [(far.channel, far.ratio) for far in comparison.worst_channels if far.ratio is not None and far.ratio > 1]
    if len(beyond) > 1:
        text = ", ".join(f"{channel} ({of_limit(ratio)})" for channel, ratio in beyond[:_MOST_CHANNELS])
        more = " and more" if len(comparison.channels) > _MOST_CHANNELS else ""
        yield line((f"{INDENT}channels   ", "dim"), text + more)


def _bar(comparison: Comparison) -> Iterator[Line]:
    """Return the largest error of each channel in units of its bound, as a bar: low within it, then by decades."""
    if comparison.channel_ratios:
        blocks = "".join(map(_block, comparison.channel_ratios))
        yield line((f"{INDENT}           ", "dim"), (blocks, "red"))


def _block(ratio: float | None) -> str:
    if ratio is None:
        return _BARS[-1]
    if ratio <= 1.0:
        return _BARS[0]
    share = min(math.log10(ratio) / _DECADES, 1.0)
    return _BARS[max(1, math.ceil(share * (len(_BARS) - 1)))]


def _causes(explanation: Explanation, alike: int = 0) -> Iterator[Line]:
    """Return the convention that was broken, with all that fit as well, or that nothing fits."""
    label = (f"{INDENT}cause      ", "bold")
    if not explanation.causes:
        yield line(label, printable(explanation.sentence, 500))
        for remark in explanation.remarks:
            yield line(f"{INDENT}           ", printable(remark, 500))
        return
    first, *others = explanation.causes
    many = f" in {plural(alike + 1, 'layer')}" if alike else ""
    yield line(label, printable(first.sentence, 500) + many, (f"   (explains {_share(first.explains)})", "dim"))
    for other in others[:_MOST_TIES]:
        yield line(f"{INDENT}       or  ", printable(other.sentence, 500))
        if other.separated_by:
            yield line((f"{INDENT}           told apart by: {printable(other.separated_by, 500)}", "dim"))
    if len(others) > _MOST_TIES:
        yield line(
            f"{INDENT}       or  {plural(len(others) - _MOST_TIES, 'other')} that fit as well (--json lists them)"
        )


def _hint(layer: LayerReport) -> Iterator[Line]:
    """Return what to do about the cause."""
    acts = dict.fromkeys(finding.hint for finding in layer.findings if finding.rule == "BN301" and finding.hint)
    for act in acts:
        yield line((f"{INDENT}hint       ", "bold"), printable(act, 500))


def _share(explains: float) -> str:
    return "every value" if explains == 1.0 else f"{explains:.1%} of the values"
