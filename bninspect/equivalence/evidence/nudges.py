"""The model run on moved values: how much rounding may change each stretch, and whether it depends on its input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.replay import RUNS, Comparing, Given, Stretch
from bninspect.equivalence.evidence.wires import Wire
from bninspect.records import Array

NUDGE = 0.05
"""Part of themselves by which values are moved to see whether what is behind depends on them at all."""


_TURN = 2.0
"""The same for values on the way that did not move: some change their sign."""


def largest_changes(
    kept: Sequence[Wire], forced: Mapping[str, Array], computed: Mapping[str, Array], how: Comparing
) -> dict[str, float]:
    """Return the largest change of each value when what goes in is moved by one rounding, RUNS times."""
    generator = np.random.default_rng(how.seed)
    labels = [wire.label for wire in kept]
    found = dict.fromkeys(labels, 0.0)
    for _ in range(RUNS):
        given = {label: nudge(array, tensors.unit(array), generator) for label, array in forced.items()}
        data = None if how.data is None else [nudge(one, tensors.unit(one), generator) for one in how.data]
        for label, values in how.replay(data, given, labels).items():
            if values.dtype.kind == "f" and values.size:
                with np.errstate(all="ignore"):
                    change = np.abs(values.astype(np.float64) - computed[label])
                found[label] = max(found[label], float(np.nanmax(change, initial=0.0)))
    return found


def nudge(values: Array, part: float, generator: np.random.Generator) -> Array:
    """Return values each of which is moved by `part` of itself, up, down or not at all."""
    if values.dtype.kind != "f":
        return values
    moved: Array = (values * (1 + part * generator.integers(-1, 2, values.shape))).astype(values.dtype)
    return moved


def with_moves(
    judged: Sequence[Stretch],
    given: Given,
    computed: Mapping[str, Array],
    how: Comparing,
) -> Iterator[Stretch]:
    """Yield the stretches, those marked whose end does not depend visibly on what goes in."""
    asked = [
        one
        for one in judged
        if one.compared is not None
        and not one.wrong
        and (one.wire.end == "y" or one.wire.label not in given.made)
        and not _swings(one, how)
    ]
    still: dict[int, Stretch] = {id(one): one for one in asked}
    # A value on the way may only not be dead; of an output that is nearly saturated the least change has to show.
    for part, ends in ((NUDGE, ("x", "y", "output")), (_TURN, ("x", "y"))):
        waiting = [one for one in still.values() if one.wire.end in ends]
        if not waiting:
            continue
        generator = np.random.default_rng(how.seed + 1)
        shaken = {label: _shaken(array, part, generator) for label, array in given.arrays.items()}
        data = None if how.data is None else [_shaken(one, part, generator) for one in how.data]
        after = how.replay(data, shaken, [one.wire.label for one in waiting])
        for one in waiting:
            if _moves(one, computed[one.wire.label], after[one.wire.label]):
                del still[id(one)]
    for one in judged:
        yield replace(one, moves=False) if id(one) in still else one


def _swings(stretch: Stretch, how: Comparing) -> bool:
    """Return whether what comes out of a kernel is not what it makes of zeros, as its recomputation shows."""
    place = stretch.wire.place
    proof = how.proofs.get(id(place.node)) if place is not None and stretch.wire.end == "y" else None
    return proof is not None and proof.swing > 2 * stretch.allowed


def _moves(stretch: Stretch, before: Array, now: Array) -> bool:
    """Return whether the end of a stretch changed by more than it may be off."""
    with np.errstate(all="ignore"):
        changes = np.abs(now.astype(np.float64) - before.astype(np.float64))
        return len(stretch.kinds) > 1 or bool((changes > 2 * stretch.allowed).any())


def _shaken(values: Array, part: float, generator: np.random.Generator) -> Array:
    if values.dtype.kind != "f":
        return values
    moved: Array = (values * (1 + part * generator.uniform(-1, 1, values.shape))).astype(values.dtype)
    return moved
