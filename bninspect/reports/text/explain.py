"""The screen of `explain`: the arithmetic with its numbers, the cause of a difference, and training steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bninspect.records.limit_words import of_limit
from bninspect.reports import Looks
from bninspect.reports.text.lines import Line, line, shown
from bninspect.reports.words import plural
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.causes import Explanation
    from bninspect.records.explained import Answer, ChannelArithmetic, Explained, FoldedChannel, Stored, TrainingStep

_INDENT = " " * 11
_TIES = 6
"""Causes that are listed; the rest is counted."""


def render(answer: Answer, looks: Looks) -> str:
    """Return the answer as text, with colours if `looks` wants them."""
    rows: list[Line] = []
    for layer in answer.layers:
        rows.extend(_layer(layer, looks))
    if answer.step is not None:
        rows.extend(_step(answer.step))
    return shown(rows, looks)


def _layer(layer: Explained, looks: Looks) -> Iterator[Line]:
    verdict = _verdict(layer)
    epsilon = "unknown" if layer.epsilon is None else f"{layer.epsilon:g}"
    yield line(*verdict, (printable(layer.name), "bold"), f"  {plural(layer.channels, 'channel')}, epsilon {epsilon}")
    if layer.comparison is not None and looks.verbosity >= 0:
        yield from _compared(layer)
    for one in layer.folded:
        yield from _folded(one)
    if layer.channels > len(layer.folded) > 1:
        yield line(f"{_INDENT}{layer.channels - len(layer.folded)} further channels (--channel K shows one)")
    for place, term in enumerate(layer.arithmetic[: None if looks.verbosity > 0 or layer.comparison is None else 1]):
        yield from _arithmetic(term, first=place == 0, single=layer.channels == 1)
    if layer.explanation is not None and not layer.explanation.matches:
        yield from _explanation(layer.explanation)
    for note in layer.notes if looks.verbosity >= 0 else ():
        yield line((f"{'note':<11}", "cyan"), printable(note, 500))


def _verdict(layer: Explained) -> list[tuple[str, str]]:
    if layer.explanation is None:
        return []
    if layer.open:
        return [("OPEN   ", "bold yellow")]
    return [("MATCH  ", "bold green")] if layer.agrees else [("DIFFER ", "bold red")]


def _compared(layer: Explained) -> Iterator[Line]:
    found = layer.comparison
    assert found is not None  # noqa: S101 - the caller knows
    if found.agrees:
        yield line(f"{_INDENT}all {found.elements:,} values are right, the worst at {of_limit(found.ratio)}")
    elif found.ratio is None:
        said = "values are wrong, or not finite on one side or on both"
        yield line(f"{_INDENT}{found.violations:,} of {found.elements:,} {said}")
    else:
        worst = f"the worst by {of_limit(found.ratio)}"
        yield line(f"{_INDENT}{found.violations:,} of {found.elements:,} values are wrong, {worst}")


def _folded(one: FoldedChannel) -> Iterator[Line]:
    yield line(
        (f"{f'channel {one.channel}':<11}", "dim"), f"scale = {_n(one.gamma)} / {_n(one.root)} = {_n(one.scale)}"
    )
    yield line(f"{_INDENT}shift = {_n(one.beta)} - {_n(one.mean)} * {_n(one.scale)} = {_n(one.shift)}")


def _arithmetic(term: ChannelArithmetic, *, first: bool, single: bool) -> Iterator[Line]:
    product = f"{_n(term.gamma)} * ({_n(term.x)} - {_n(term.mean)}) / sqrt({_n(term.variance)} + {_n(term.epsilon)})"
    yield line((f"{'by hand':<11}", "dim"), f"{product} + {_n(term.beta)} = {_n(term.expected)}")
    if first:
        steps = f"sqrt(variance + epsilon) = {_n(term.root)}, (x - mean) / that = {_n(term.normalised)}"
        yield line(f"{_INDENT}{steps}" + ("" if single else f", channel {term.channel}"))
    if term.given is not None:
        yield line((f"{'given':<11}", "dim"), f"{_n(term.given)}{_difference(term)}")


def _difference(term: ChannelArithmetic) -> str:
    if term.ratio is None or term.given is None:
        return ": cannot be compared"
    off = abs(term.given - term.expected)
    if term.ratio <= 1.0:
        return f": equal, {off:.2g} apart, {of_limit(term.ratio)}"
    return f": {off:.3g} apart, {of_limit(term.ratio)}"


def _explanation(found: Explanation) -> Iterator[Line]:
    if not found.decided:
        yield from (line((f"{'undecided':<11}", "bold"), remark) for remark in found.remarks)
    first = "cause" if found.decided else "perhaps"
    for place, cause in enumerate(found.causes[:_TIES]):
        word = first if place == 0 else "or"
        share = "explains every value" if cause.explains >= 1 else f"explains {cause.explains:.0%} of the values"
        yield line((f"{word:<11}", "bold"), f"{cause.sentence}  ({share})")
    if len(found.causes) > _TIES:
        yield line(f"{_INDENT}or {len(found.causes) - _TIES:,} more that fit as well (--json lists them)")
    if len(found.causes) > 1:
        yield line(f"{_INDENT}what would tell them apart: {found.causes[0].separated_by}")
    if not found.causes and found.decided:
        yield line((f"{'cause':<11}", "bold"), found.sentence)
    for remark in found.remarks if found.decided else ():
        yield line(f"{_INDENT}{remark}")


def _step(step: TrainingStep) -> Iterator[Line]:
    axes = ", ".join(map(str, step.over)) or "none"
    yield line(
        ("batch      ", "bold"), f"shape {_shape(step.shape)}: moments over axes {axes}, {step.n:,} values per channel"
    )
    yield line(f"{_INDENT}it is normalised with the biased variance, divided by n")
    for place, channel in enumerate(step.channels):
        numbers = f"mean {_n(step.mean[place])}, variance {_n(step.biased[place])} biased"
        unbiased = f", {_n(step.unbiased[place])} unbiased" if step.n > 1 else ""
        yield line((f"{f'channel {channel}':<11}", "dim"), numbers + unbiased)
    first = step.channels[0]
    yield line(
        ("stores     ", "bold"),
        f"new = momentum * old + (1 - momentum) * batch; old mean {_n(step.moving_mean[0])}, "
        f"variance {_n(step.moving_variance[0])} in channel {first}",
    )
    rows = [_HEAD, *(_row(one) for one in step.stored)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield line(f"{_INDENT}{'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()}")


_HEAD = ("framework", "epsilon", "momentum", "divides by", "factor", "new mean", "new variance")
_DIVISORS = {"biased": "n", "unbiased": "n - 1", "overcorrected": "n - 1 - epsilon"}


def _row(one: Stored) -> Sequence[str]:
    return (
        one.framework,
        "-" if one.epsilon is None else f"{one.epsilon:g}",
        "-" if one.momentum is None else f"{one.momentum:g}",
        one.single or _DIVISORS.get(one.estimator, "-"),
        "-" if one.factor is None else f"{one.factor:.7g}",
        _n(one.mean[0]) if one.mean else "-",
        _n(one.variance[0]) if one.variance else "-",
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _n(value: float) -> str:
    """Return a number with as many digits as float32 has."""
    return f"{value:.7g}"
