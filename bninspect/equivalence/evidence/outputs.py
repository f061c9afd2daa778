"""Which output of the export is which of the model, and how far they differ when each is run on its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bninspect.equivalence import tensors
from bninspect.equivalence.evidence.replay import Stretch
from bninspect.equivalence.evidence.rounds import Subject
from bninspect.equivalence.evidence.wires import Wire
from bninspect.equivalence.pairing.places import Place
from bninspect.records import Array, Comparison


def belonging(
    subject: Subject,
    free: Mapping[str, Array],
    values: Mapping[str, Array],
    outputs: Sequence[str],
    ends: Sequence[str],
) -> dict[str, Wire]:
    """Return the output of the export that is each output of the source: the nearest ones of fitting shapes.

    Converters sort outputs and give them names of their own. Their axes must stand as those of the model's do, or
    with the channels at the other end where the operations of the two files have them so.
    """
    targets = _conventions(subject.places)
    found: list[tuple[float, int, int, Wire]] = []
    for place, label in enumerate(outputs):
        for other, name in enumerate(ends):
            if label not in free or name not in values:
                continue
            for axis, target in targets:
                wire = Wire(label, name, "output", None, axis, target)
                off = difference(wire, free, values)
                if np.isfinite(off):
                    found.append((off, place, other, wire))
    belong: dict[str, Wire] = {}
    taken: set[str] = set()
    for _, _, _, wire in sorted(found, key=lambda one: one[:3]):
        if wire.label not in belong and wire.value not in taken:
            belong[wire.label] = wire
            taken.add(wire.value)
    return {label: belong[label] for label in outputs if label in belong}


def _conventions(places: Sequence[Place]) -> list[tuple[int, int]]:
    """Return where source and export have their channels: the same place, or one in front and one behind."""
    moved = set()
    for place in places:
        own, other = tensors.axis_of(place.operation), tensors.axis_of(place.node)
        if place.operation is None and place.norms:
            # A batch norm alone does not say how many axes there are: only that its channels are in front or behind.
            own = tensors.axis_of(place.norms[0].call)
            moved |= {(own, other)} & {(1, -1), (-1, 1)}
        elif place.operation is not None and place.node.geometry is not None and place.node.geometry.size:
            rank = len(place.node.geometry.size)
            first, second = own not in {-1, rank + 1}, other not in {-1, rank + 1}
            if first != second:
                moved.add((1, -1) if first else (-1, 1))
    return [(-1, -1), *sorted(moved)]


def difference(wire: Wire, free: Mapping[str, Array], values: Mapping[str, Array]) -> float:
    """Return by how much the two differ at most in a value; infinity where they cannot be compared."""
    own = free[wire.label]
    moved = tensors.arranged(values[wire.value], wire.target, own.shape, wire.axis, own.ndim)
    if moved is None or (own.dtype.kind == "f") != (moved.dtype.kind == "f"):
        return float("inf")
    if not own.size:
        return 0.0
    with np.errstate(all="ignore"):
        found = float(np.abs(moved.astype(np.float64) - own.astype(np.float64)).max())
    return found if np.isfinite(found) else float(np.finfo(np.float64).max)


def compared_outputs(stretches: Sequence[Stretch]) -> Iterable[Comparison]:
    """Yield the comparisons of the outputs, each from the last values that both have."""
    for one in stretches:
        if one.wire.end == "output" and one.compared is not None:
            yield replace(one.compared, observed="model output")


def largest_difference(
    belong: Mapping[str, Wire], free: Mapping[str, Array], values: Mapping[str, Array]
) -> float | None:
    """Return the largest difference of the outputs, as a part of the largest number of that output."""
    parts = []
    for wire in belong.values():
        own = free[wire.label]
        size = float(np.abs(own).max(initial=0.0)) if own.dtype.kind == "f" else 0.0
        if size > 0 and np.isfinite(size):
            parts.append(difference(wire, free, values) / size)
    return max(parts, default=None)


def agreement(
    belong: Mapping[str, Wire], free: Mapping[str, Array], values: Mapping[str, Array]
) -> tuple[int, int] | None:
    """Return of how many samples the largest of the first output's numbers is the same, and of how many."""
    for wire in belong.values():
        own, other = free[wire.label], values[wire.value]
        if own.dtype.kind == "f" and own.ndim == 2 and own.shape[1] > 1 and own.shape == other.shape:
            return int((own.argmax(axis=1) == other.argmax(axis=1)).sum()), len(own)
    return None
