"""Convolution and pooling by their definition: loops over whole numbers or fractions, shared with nothing."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np


def convolve(
    x: Any, w: Any, bias: Any, *, stride: Any, padding: Any, dilation: Any, groups: int, outputs: Any, transposed: bool
) -> Any:
    """Return the convolution of x (batch, *lengths, inputs) with w (*size, inputs per group, outputs).

    A transposed one scatters each input to the outputs, as its definition has it.
    """
    batch, *lengths, inputs = x.shape
    *size, each, filters = w.shape
    y = np.empty((batch, *outputs, filters), object)
    y[...] = [Fraction(b) for b in bias.tolist()]
    reads = lengths if not transposed else outputs
    walked = outputs if not transposed else lengths
    for b, *place in np.ndindex(batch, *walked):
        for tap in itertools.product(*(range(k) for k in size)):
            other = [
                p * s - lo + t * d for p, s, (lo, _), t, d in zip(place, stride, padding, tap, dilation, strict=True)
            ]
            if not all(0 <= o < n for o, n in zip(other, reads, strict=True)):
                continue
            source, target = (other, place) if not transposed else (place, other)
            for o in range(filters):
                group = o // (filters // groups)
                for i in range(each):
                    product = Fraction(x[(b, *source, group * each + i)].item()) * Fraction(w[(*tap, i, o)].item())
                    y[(b, *target, o)] += product
    assert each * groups == inputs
    return y


def pool(x: Any, *, size: Any, stride: Any, padding: Any, outputs: Any, average: bool, counts_padding: bool) -> Any:
    """Return the maxima or averages of windows over x (batch, *lengths, channels)."""
    batch, *lengths, channels = x.shape
    y = np.empty((batch, *outputs, channels), object)
    for b, *place, c in np.ndindex(y.shape):
        seen, padded = [], 0
        for tap in itertools.product(*(range(k) for k in size)):
            at = [p * s - lo + t for p, s, (lo, _), t in zip(place, stride, padding, tap, strict=True)]
            if all(0 <= a < n for a, n in zip(at, lengths, strict=True)):
                seen.append(Fraction(x[(b, *at, c)].item()))
            elif all(-lo <= a < n + hi for a, n, (lo, hi) in zip(at, lengths, padding, strict=True)):
                padded += 1
        y[(b, *place, c)] = (
            sum(seen, Fraction(0)) / (len(seen) + (padded if counts_padding else 0)) if average else max(seen)
        )
    return y
