"""What the terminal shows of a layer that is not what the formula says: the diff, the arithmetic, the cause."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bninspect.records import Comparison, Explanation, LayerReport, Worst
from bninspect.reports import Looks
from bninspect.reports.counts import OUTPUTS
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural
from bninspect.safe_text import printable

INDENT = " " * 6
_MOST_TIES = 4
_MOST_CHANNELS = 5
_BARS = "▁▂▃▄▅▆▇█"
_DECADES = 6.0
"""What the bar spans: a full block is a million times the bound, and more."""


def mismatch(layer: LayerReport, looks: Looks) -> Iterator[Line]:
    """Return the rich diff of a layer: what was beyond the bound, and the arithmetic of the worst element."""
    wrong = [one for one in layer.comparisons if not one.agrees and one.reference in OUTPUTS]
    stored = {one.reference: None for one in layer.comparisons if not one.agrees and one.reference not in OUTPUTS}
    worst = max(wrong, key=lambda one: one.ratio if one.ratio is not None else float("inf"), default=None)
    headline = "the runtime holds something else than the file"
    if worst:
        headline = _beyond(worst)
    elif stored:
        headline = f"a training step stores another {' and another '.join(stored)}"
    word = ("known ", "yellow") if layer.known else ("FAIL  ", "bold red")
    yield line(word, (printable(layer.name), "bold"), f"   {headline}")
    if worst and worst.worst:
        yield from _by_hand(worst.worst)
        yield from _worst_channels(worst)
        if looks.verbosity >= 1:
            yield from _bar(worst)
    if layer.explanation is not None:
        yield from _causes(layer.explanation)


def _beyond(comparison: Comparison) -> str:
    counted = f"{comparison.violations} of {comparison.elements} values {comparison.title}"
    channel = f", channel {comparison.worst.channel}" if comparison.worst else ""
    if comparison.ratio is None:
        origin = " (nor is their input: an earlier layer is the cause)" if _input_is_not_finite(comparison) else ""
        return f"{counted} are not finite{channel}{origin}"
    return f"{counted} beyond the bound, worst {comparison.ratio:.2g} x bound{channel}"


def _input_is_not_finite(comparison: Comparison) -> bool:
    return comparison.worst is not None and comparison.worst.x is None


def _by_hand(worst: Worst) -> Iterator[Line]:
    numbers = (worst.gamma, worst.x, worst.moving_mean, worst.moving_variance, worst.epsilon, worst.beta)
    gamma, x, mean, variance, epsilon, beta = (_number(number) for number in numbers)
    arithmetic = f"{gamma} * ({x} - {mean}) / sqrt({variance} + {epsilon}) + {beta} = {_number(worst.expected)}"
    yield line((f"{INDENT}by hand    ", "dim"), arithmetic)
    yield line((f"{INDENT}runtime    ", "dim"), _number(worst.actual))


def _worst_channels(comparison: Comparison) -> Iterator[Line]:
    """Return one line with the worst channels, the worst first, and how far each is beyond its bound."""
    beyond = [(far.channel, far.ratio) for far in comparison.worst_channels if far.ratio is not None and far.ratio > 1]
    if len(beyond) > 1:
        text = ", ".join(f"{channel} ({ratio:.2g} x bound)" for channel, ratio in beyond[:_MOST_CHANNELS])
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


def _causes(explanation: Explanation) -> Iterator[Line]:
    """Return the convention that was broken, with all that fit as well, or that nothing fits."""
    label = (f"{INDENT}cause      ", "bold")
    if not explanation.causes:
        yield line(label, printable(explanation.sentence, 500))
        for remark in explanation.remarks:
            yield line(f"{INDENT}           ", printable(remark, 500))
        return
    first, *others = explanation.causes
    yield line(label, printable(first.sentence, 500), (f"   (explains {_share(first.explains)})", "dim"))
    for other in others[:_MOST_TIES]:
        yield line(f"{INDENT}       or  ", printable(other.sentence, 500))
        if other.separated_by:
            yield line((f"{INDENT}           told apart by: {printable(other.separated_by, 500)}", "dim"))
    if len(others) > _MOST_TIES:
        yield line(
            f"{INDENT}       or  {plural(len(others) - _MOST_TIES, 'other')} that fit as well (--json lists them)"
        )


def _share(explains: float) -> str:
    return "every value" if explains == 1.0 else f"{explains:.1%} of the values"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"
