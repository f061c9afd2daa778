"""Axes: from a value to a place between 0 and 1, and the few numbers that are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_MOST_TICKS = 5


@dataclass(frozen=True)
class Scale:
    """An axis."""

    place: Callable[[float], float]
    """Share of the way from its beginning to its end, cut off at both."""
    ticks: tuple[float, ...]

    def labels(self) -> list[tuple[float, str]]:
        """Return the place and the text of each tick, with as many digits as tell them apart."""
        for digits in range(3, 17):
            texts = [_said(tick, digits) for tick in self.ticks]
            if len(set(texts)) == len(texts):
                break
        return [(self.place(tick), text) for tick, text in zip(self.ticks, texts, strict=True)]


def _said(tick: float, digits: int) -> str:
    """Return `10,000` for 1e+04; what is longer stays in powers of ten."""
    return f"{tick:,.0f}" if 1e4 <= abs(tick) < 1e7 and tick == int(tick) else f"{tick:.{digits}g}"


def linear(values: Iterable[float]) -> Scale:
    """Return a linear axis over the given numbers, which are finite; one number alone is in its middle."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    half = high / 2 - low / 2  # the range itself may be more than a float holds
    if half <= 0:
        return Scale(lambda _: 0.5, (low,))

    def place(value: float) -> float:
        return min(1.0, max(0.0, (value / 2 - low / 2) / half))

    return Scale(place, _round_numbers(low, high, 2 * half))


def logarithmic(values: Iterable[float]) -> Scale:
    """Return a logarithmic axis over those numbers that are positive, out to the next powers of ten."""
    numbers = [value for value in values if value > 0] or [1.0]
    first, last = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    last = max(last, first + 1)

    def place(value: float) -> float:
        return min(1.0, max(0.0, (math.log10(value) - first) / (last - first))) if value > 0 else 0.0

    step = -(-(last - first) // (_MOST_TICKS - 1))
    powers = [power for power in range(first, last + 1) if power % step == 0 and -324 < power < 309]
    return Scale(place, tuple(float(f"1e{power}") for power in powers))


def _round_numbers(low: float, high: float, extent: float) -> tuple[float, ...]:
    """Return at most 5 multiples of 1, 2 or 5 times a power of ten between two numbers, or the two themselves."""
    if not math.isfinite(extent) or extent < 1e-290 or extent < max(abs(low), abs(high)) * 1e-9:
        return (low, high)
    power = 10.0 ** math.floor(math.log10(extent / (_MOST_TICKS - 1)))
    steps = (factor * power for factor in (1, 2, 5, 10))
    step = next(step for step in steps if extent / step <= _MOST_TICKS - 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(index * step for index in range(first, last + 1)) or (low, high)
