"""How deep each batch norm of a model lies, and what must be kept at each depth to go on from there.

A layer lies behind another if what arrives at it depends on the statistics of the other. Those of one depth do not lie
behind each other, and are measured together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bninspect.errors import RuntimeFailure
from bninspect.records import Array
from bninspect.runtimes.dissection import Arriving, DissectedStep, Dissection
from bninspect.runtimes.runtime import Forward, Receive
from bninspect.safe_text import printable

Values: TypeAlias = Mapping[str, Array]
"""By name."""


class Circle(RuntimeFailure):
    """What arrives at a layer depends on its own statistics."""


@dataclass(frozen=True)
class Depth:
    """Layers of one depth."""

    layers: tuple[str, ...]
    arriving: tuple[Arriving, ...]
    """What arrives at them."""
    kept: tuple[str, ...]
    """Names of the values that what lies deeper takes; empty at the last depth."""


def of_dissection(dissection: Dissection, layers: Collection[str]) -> tuple[Depth, ...]:
    """Return the depths of a model, the first one in front.

    Args:
        dissection: the model, taken apart.
        layers: whose statistics will change; those of others are as if they were part of the weights.

    Raises:
        Circle: what arrives at a layer depends on its own statistics.
    """
    arriving = [each for each in dissection.arriving if each.layer in layers]
    levels = _levels(dissection.steps, arriving)
    depths = []
    for level in range(max(levels.values(), default=-1) + 1):
        here = tuple(each for each in arriving if levels[each.layer] == level)
        so_far = {name for each in arriving if levels[each.layer] <= level for name in each.values}
        all_of_it = {name for each in arriving for name in each.values}
        last = level == max(levels.values())
        kept = () if last else _kept(dissection.steps, so_far, all_of_it)
        depths.append(Depth(tuple(dict.fromkeys(each.layer for each in here)), here, kept))
    return tuple(depths)


def _levels(steps: Sequence[DissectedStep], arriving: Sequence[Arriving]) -> Mapping[str, int]:
    """Return the depth of each layer, from 0: that of a layer that is called again is the depth of its last call."""
    levels = {each.layer: 0 for each in arriving}
    for _ in range(len(levels) + 1):
        depth: dict[str, int] = {}
        for step in steps:
            behind = [levels[layer] + 1 for layer in step.layers if layer in levels]
            here = max([*behind, *(depth.get(name, 0) for name in step.takes)], default=0)
            depth |= dict.fromkeys(step.gives, here)
        found = dict.fromkeys(levels, 0)
        for each in arriving:
            found[each.layer] = max([found[each.layer], *(depth.get(name, 0) for name in each.values)])
        if found == levels:
            return levels
        levels = found
    worst = max(levels, key=lambda layer: levels[layer])
    raise Circle(
        f"the statistics of {printable(worst)} cannot be computed",
        why="its output reaches it again: what arrives there depends on its own statistics",
        hint=f"--exclude-layer {printable(worst)} leaves it as it is",
    )


def _kept(steps: Sequence[DissectedStep], computed: Collection[str], wanted: Collection[str]) -> tuple[str, ...]:
    """Return the values that have been computed, or are inputs, and that what has not been computed takes."""
    inside = _leading_to(steps, computed)
    given = {name for place in inside for name in (*steps[place].takes, *steps[place].gives)} | set(computed)
    made = {name for step in steps for name in step.gives}
    kept: dict[str, None] = {}
    for place in sorted(_leading_to(steps, wanted) - inside):
        kept |= dict.fromkeys(name for name in steps[place].takes if name in given or name not in made)
    return tuple(kept)


def _leading_to(steps: Sequence[DissectedStep], names: Collection[str]) -> set[int]:
    """Return the places of the steps without which values cannot be computed."""
    missing, places = set(names), set()
    for place in reversed(range(len(steps))):
        if missing.intersection(steps[place].gives):
            places.add(place)
            missing.update(steps[place].takes)
    return places


def forward(dissection: Dissection, depths: Sequence[Depth]) -> Forward:
    """Return a function that runs a batch from depth to depth: no more is held than lies between two of them."""

    def run(data: Values, receive: Receive, until: frozenset[str] | None = None) -> None:
        given = dissection.feed(data)
        missing = set(until or ())
        for depth in depths:
            given = advanced(dissection, given, depth, receive, depth.kept)
            missing.difference_update(depth.layers)
            if until is not None and not missing:
                return

    return run


def advanced(dissection: Dissection, given: Values, depth: Depth, receive: Receive, kept: Sequence[str]) -> Values:
    """Run a batch on to a depth, hand on what arrives there, and return what is to be kept."""
    names = [name for each in depth.arriving for name in each.values]
    values = dissection.compute(given, (*names, *kept))
    for each in depth.arriving:
        receive(each.arrival(values))
    return {name: values[name] for name in kept}
