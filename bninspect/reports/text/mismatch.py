"""What the terminal shows of a layer that is not what the formula says: the diff, the arithmetic, the cause."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import Comparison, Explanation, LayerReport, Worst
from bninspect.reports import Looks
from bninspect.reports.counts import OUTPUTS
from bninspect.reports.text.channels import bar, worst_channels
from bninspect.reports.text.lines import Line, line
from bninspect.reports.words import plural
from bninspect.safe_text import printable

INDENT = " " * 6
_MOST_TIES = 4


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
        yield from worst_channels(worst)
        if looks.verbosity >= 1:
            yield from bar(worst)
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
