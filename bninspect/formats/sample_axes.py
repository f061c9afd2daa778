"""Which axes of a value the samples of a batch are along, after whatever reshaped and transposed them.

A graph takes its samples along the first axis. Keras' LayerNormalization, and InstanceNorm in several exporters,
reshape data so that the samples stand among the channels, and normalise that by what is written like a batch norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Shape = Sequence[int | None]
"""Lengths of the axes, None where one is open; empty for a batch of any size whose rank nobody knows."""
_FIRST = frozenset((0,))
_UNKNOWN = (1, 1)
"""Shape of a sample of which nobody knows whether it has a single channel."""


@dataclass(frozen=True)
class SampleAxes:
    """Where the samples of a value are."""

    axes: frozenset[int] = _FIRST
    single: tuple[int | None, ...] = ()
    """Of a batch of one sample that was reshaped the shape that it had: the first axis may be anything since."""


def behind_reshape(samples: SampleAxes, before: Shape | None, after: Shape | None) -> SampleAxes:
    """Return where the samples of reshaped data are.

    Args:
        samples: where they were.
        before: shape of the data, None if the graph does not tell.
        after: its new shape, or what is known of it.
    """
    if not after or len(samples.axes) != 1:
        return SampleAxes(_FIRST, samples.single)
    if before is None:
        return SampleAxes(_FIRST, samples.single or (_UNKNOWN if after[0] == 1 else ()))
    (axis,) = samples.axes
    length = before[axis] if axis < len(before) else None
    if length == 1:
        return SampleAxes(_FIRST, samples.single or tuple(before))
    if length is not None and None not in before and None not in after:
        return SampleAxes(_covering(axis, before, after), samples.single)  # type: ignore[arg-type]
    if axis == 0:  # whatever the lengths behind it, the places of the first axis are the farthest apart
        return SampleAxes(frozenset((next((place for place, one in enumerate(after) if one != 1), 0),)), samples.single)
    opened = frozenset(place for place, one in enumerate(after) if one is None)
    return SampleAxes(opened or _FIRST, samples.single)


def behind_transpose(samples: SampleAxes, order: Sequence[int]) -> SampleAxes:
    """Return where the samples of transposed data are; `order` is that of its axes."""
    places = frozenset(place for place, axis in enumerate(order) if axis in samples.axes)
    return SampleAxes(places or _FIRST, samples.single)


def _covering(axis: int, before: Sequence[int], after: Sequence[int]) -> frozenset[int]:
    """Return the axes of the new shape along which a place moves if it moves along one of the old shape."""
    step = math.prod(before[axis + 1 :])
    found = set()
    for place, length in enumerate(after):
        inner = math.prod(after[place + 1 :])
        if length > 1 and inner < step * before[axis] and inner * length > step:
            found.add(place)
    return frozenset(found) or _FIRST
