"""Names for calls of batch norms: a layer that is called twice is one layer, unless the calls differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bninspect.records import BatchNorm, Statistics


def distinct(layer: BatchNorm, before: Sequence[BatchNorm]) -> BatchNorm:
    """Return a layer under a name of its own, unless an earlier call of it was the same in every respect."""
    taken = {other.name: other for other in before}
    number, name = 1, layer.name
    while name in taken and not _same(taken[name], layer):
        number += 1
        name = f"{layer.name}#{number}"
    return replace(layer, name=name)


def _same(one: BatchNorm, other: BatchNorm) -> bool:
    """Return whether two calls are of one layer: with the same numbers, by the same statistics."""
    if Statistics.COMPUTED in {one.statistics, other.statistics}:
        return False  # nobody knows the numbers
    settings = [(layer.location, layer.epsilon, layer.statistics, layer.arrays.keys()) for layer in (one, other)]
    return settings[0] == settings[1] and all(
        np.array_equal(array, other.arrays[name], equal_nan=True) for name, array in one.arrays.items()
    )
