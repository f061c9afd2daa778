"""What is drawn along the channels is as true as the numbers: no spike is lost, whatever is joined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.arithmetic import channel_strips


def many(one: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    """Return lists with more numbers than there are steps as often as with fewer."""

    def drawn(few: list[float], length: int, seed: int) -> list[float]:
        return [float(number) for number in np.random.default_rng(seed).choice(few, length)]

    return st.builds(drawn, st.lists(one, min_size=1, max_size=20), st.integers(1, 600), st.integers(0, 99))


VALUES = many(st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([math.nan, math.inf, -math.inf]))
RATIOS = many(st.floats(0, allow_infinity=False) | st.just(math.inf))


def steps(values: list[float]) -> list[list[float]]:
    """Cut the values as a strip must: at most 128 steps, all but the last of one length."""
    length = math.ceil(len(values) / 128)
    return [values[first : first + length] for first in range(0, len(values), length)]


@given(VALUES)
def test_each_step_holds_the_extremes_of_its_channels(values: list[float]) -> None:
    strip = channel_strips.strip(np.array(values))
    cut = steps(values)
    assert strip.channels == len(cut[0])
    assert len(strip.low) == len(cut) <= 128
    highest = strip.high or strip.low
    for index, (step, low, high) in enumerate(zip(cut, strip.low, highest, strict=True)):
        finite = [value for value in step if math.isfinite(value)]
        assert (index in strip.nonfinite) == (len(finite) < len(step))
        if finite:
            assert low == pytest.approx(min(finite), rel=1e-4, abs=0)
            assert high == pytest.approx(max(finite), rel=1e-4, abs=0)
        else:
            assert (low, high) == (None, None)
    assert bool(strip.high) == (strip.channels > 1)


def test_a_single_spike_among_two_thousand_channels_stays() -> None:
    values = np.zeros(2000, np.float32)
    values[1234] = 7.5
    strip = channel_strips.strip(values)
    assert [(step * strip.channels, high) for step, high in enumerate(strip.high) if high] == [(1232, 7.5)]


@given(RATIOS)
def test_peaks_are_the_largest_ratios_and_a_verdict_survives_the_rounding(ratios: list[float]) -> None:
    peaks = channel_strips.peaks(np.array(ratios))
    for step, peak in zip(steps(ratios), peaks, strict=True):
        if peak is None:
            assert max(step) == math.inf
        else:
            assert peak == pytest.approx(max(step), abs=5.1e-5 if max(step) <= 1 else 0, rel=0)
            assert (peak <= 1.0) == (max(step) <= 1.0)


@given(RATIOS, st.integers(0, 99))
def test_joined_peaks_are_the_peaks_of_both_calls(ratios: list[float], seed: int) -> None:
    first = np.array(ratios)
    second = np.random.default_rng(seed).permutation(first)
    together = channel_strips.peaks(np.maximum(first, second))
    assert channel_strips.joined(channel_strips.peaks(first), channel_strips.peaks(second)) == together
    assert channel_strips.joined((), together) == channel_strips.joined(together, ()) == together


def test_nothing_has_no_steps() -> None:
    assert channel_strips.peaks(np.zeros(0)) == ()
    assert channel_strips.strip(np.zeros(0)).low == ()
