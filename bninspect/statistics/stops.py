"""At which depths a walk through a model keeps what it has computed: where that costs less than computing it again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bninspect.statistics.frontier import IN_MEMORY

_WRITE, _READ = 2e8, 1e9
"""Bytes a second, of files that are larger than memory holds: what slow disks still do."""


@dataclass(frozen=True)
class Stops:
    """Where a walk stops."""

    depths: frozenset[int]
    seconds: float
    """About how long the walk takes."""
    most: int
    """Bytes that are kept at a time."""


def chosen(seconds: Sequence[float], sizes: Sequence[int], room: float) -> Stops:
    """Return the cheapest depths to stop at.

    To measure what arrives at a depth, all from the last stop in front of it is computed; to stop there, what lies
    deeper must be able to go on from it.

    Args:
        seconds: that all data takes from the depth before to each.
        sizes: bytes that are kept of all data at each.
        room: bytes that may be kept. While it goes from one stop to the next, a walk keeps both.
    """
    count = len(seconds)
    best: list[float] = [math.inf] * count
    before: list[int] = [-1] * count
    for last in range(-1, count - 1):
        if last >= 0 and math.isinf(best[last]):
            continue
        so_far, size = (best[last], sizes[last]) if last >= 0 else (0.0, 0)
        gone, spent = 0.0, so_far
        for depth in range(last + 1, count):
            gone += seconds[depth]
            spent += gone + _time(size, _READ)
            end = depth == count - 1
            if not end and size + sizes[depth] > room:
                continue
            cost = spent + (0.0 if end else _time(sizes[depth], _WRITE))
            if cost < best[depth]:
                best[depth], before[depth] = cost, last
    stops = []
    place = before[count - 1] if count else -1
    while place >= 0:
        stops.append(place)
        place = before[place]
    held = [0, *(sizes[stop] for stop in reversed(stops))]
    most = max((here + there for here, there in zip(held, [*held[1:], 0], strict=True)), default=0)
    return Stops(frozenset(stops), best[count - 1] if count else 0.0, most)


def _time(size: int, speed: float) -> float:
    return size / speed if size > IN_MEMORY else 0.0
