"""What is said while statistics are computed: what it will cost, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from bninspect.statistics.recalibration import Plan

_BAR = 10
_TELLING = 0.1
"""Part of the work after which it tells how fast it is."""


class ShownProgress:
    """Says how far a plan is.

    Args:
        label: of the model.
        plan: which is carried out.
        samples: in the data.
        say: takes each line.
    """

    def __init__(self, label: str, plan: Plan, samples: int, say: Callable[[str], None]) -> None:
        self._label, self._plan, self._samples, self._say = label, plan, samples, say
        self._start: float | None = None
        self._behind = 0.0
        """Part of the work that was behind us when the first of it began."""

    def plan(self) -> None:
        """Say what it will cost, in a line that stays."""
        disk = f", up to {self._plan.disk / 1e9:.1f} GB on disk" if self._plan.disk else ""
        self._say(f"{self._label}: {sentence(self._plan, self._samples)}, about {duration(self._plan.seconds)}{disk}\n")

    def began(self, number: int, done: int) -> None:
        """Say that a batch of a group, or of the last pass, begins."""
        groups = len(self._plan.way.groups)
        part = self._part(number, done)
        now = time.monotonic()
        if self._start is None:
            self._start, self._behind = now, part
        gone = part - self._behind
        left = (now - self._start) / gone * (1 - part) if gone > _TELLING else self._plan.seconds * (1 - part)
        full = round(part * _BAR)
        bar = "█" * full + "░" * (_BAR - full)
        where = f"depth {number + 1} of {groups}" if number < groups else "last pass"
        self._say(f"{bar} {part:.0%}, {duration(left)} left: {where}")

    def _part(self, number: int, done: int) -> float:
        """Return the part of the work that is done: the last pass is as long as a walk, or the longest pass of many."""
        groups = len(self._plan.way.groups)
        within = done / max(1, self._samples)
        if self._plan.passes == 2:
            return (number + within) / groups / 2 if number < groups else 0.5 + within / 2
        # The pass to group number n is n + 1 groups long.
        whole = groups * (groups + 1) / 2 + groups
        behind = number * (number + 1) / 2
        return (behind + within * min(number + 1, groups)) / whole


def sentence(plan: Plan, samples: int) -> str:
    """Return how a plan goes through a model, in words."""
    groups = len(plan.way.groups)
    depths = f"{groups} depth{'' if groups == 1 else 's'}"
    way = f"{depths} one after the other" if plan.passes == 2 or groups == 1 else f"{depths}, a pass for each"
    return f"{way}, then a last pass; {samples:,} sample{'' if samples == 1 else 's'} in batches of {plan.batch}"


def duration(seconds: float) -> str:
    """Return a time in words."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
