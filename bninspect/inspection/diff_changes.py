"""By which simple rule the parameters of one batch norm came from those of another: what the change is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.rounding import bessel, narrowed, nicest, widened
from bninspect.records import Array, BatchNorm
from bninspect.safe_text import printable

_SHIFTS = (1, -1, 2, -2)
"""Values by which arrays may have been read too early or too late: a Darknet header has four numbers, or five."""
_LEAST_SHIFTED = 3
"""Values of an array that must be found again before it counts as shifted."""


def changes(before: BatchNorm, after: BatchNorm) -> Iterator[str]:
    """Yield what the change from one layer to the other is, where it has a name."""
    if before.channels != after.channels:
        yield _width(before, after)
        return
    gone = [name for name in before.arrays if name not in after.arrays]
    new = [name for name in after.arrays if name not in before.arrays]
    if gone:
        yield f"{' and '.join(gone)} left out"
    if new:
        yield f"{' and '.join(new)} added"
    if gone or new:
        return
    for said in (_rounding(before, after), _exchanged(before, after), _shifted(before, after)):
        if said is not None:
            yield said
            return
    if (order := _reordered(before, after)) is not None:
        yield f"the channels are in another order: channel {order[0]} holds what channel {order[1]} held"
        return
    yield from _arrays(before, after)


def same_values(a: Array, b: Array) -> bool:
    """Return whether two arrays hold the same numbers in the same order, whatever their types; NaN is like NaN."""
    return a.size == b.size and np.array_equal(a.ravel(), b.ravel(), equal_nan=True)


def rounded_to(before: BatchNorm, after: BatchNorm) -> str | None:
    """Return the narrow type that every parameter was rounded to, if there is one and it made a difference."""
    if all(same_values(before.arrays[name], after.arrays[name]) for name in before.arrays):
        return None
    for kind in ("float16", "bfloat16"):
        if all(
            same_values(narrowed(widened(before.arrays[name]), kind), widened(after.arrays[name]))
            for name in before.arrays
        ):
            return kind
    return None


def _width(before: BatchNorm, after: BatchNorm) -> str:
    said = f"{before.channels} channels became {after.channels}"
    few, many = sorted((before, after), key=lambda layer: layer.channels)
    if not few.arrays or few.arrays.keys() != many.arrays.keys():
        return said
    for place, kept in (("last", slice(None, few.channels)), ("first", slice(many.channels - few.channels, None))):
        if all(same_values(few.arrays[name], many.arrays[name].ravel()[kept]) for name in few.arrays):
            number = many.channels - few.channels
            which = f"{place} channel" if number == 1 else f"{place} {number} channels"
            return f"{said}: the {which} {'missing' if few is after else 'added'}"
    return said


def _rounding(before: BatchNorm, after: BatchNorm) -> str | None:
    kind = rounded_to(before, after)
    return None if kind is None else f"the parameters are rounded to {kind}"


def _exchanged(before: BatchNorm, after: BatchNorm) -> str | None:
    """Return which arrays hold what others held, if all of them are among the old ones."""
    sources = {}
    for name, array in after.arrays.items():
        found = [old for old, other in before.arrays.items() if same_values(other, array)]
        if not found:
            return None
        sources[name] = name if name in found else found[0]
    moved = [f"{name} holds {source}" for name, source in sources.items() if source != name]
    return f"arrays exchanged: {', '.join(moved)}" if moved else None


def _shifted(before: BatchNorm, after: BatchNorm) -> str | None:
    """Return by how many values every array is shifted; what came in at its edge may be anything."""
    for step in _SHIFTS:
        if all(_is_shifted(before.arrays[name], array, step) for name, array in after.arrays.items()):
            values = "value" if abs(step) == 1 else "values"
            cause = f"read {abs(step)} {values} too {'early' if step > 0 else 'late'}"
            return f"every array is shifted by {step:+d}: channel c holds what channel c{-step:+d} held ({cause})"
    return None


def _is_shifted(old: Array, new: Array, step: int) -> bool:
    a, b, by = old.ravel(), new.ravel(), abs(step)
    if a.size < by + _LEAST_SHIFTED or same_values(a, b):
        return False
    return same_values(b[by:], a[:-by]) if step > 0 else same_values(b[:-by], a[by:])


def _reordered(before: BatchNorm, after: BatchNorm) -> tuple[int, int] | None:
    """Return a channel and where its parameters were, if all channels are there in another order."""
    rows = [np.stack([widened(array).ravel() for array in layer.arrays.values()], axis=1) for layer in (before, after)]
    orders = [np.lexsort(each.T) for each in rows]
    if not np.array_equal(rows[0][orders[0]], rows[1][orders[1]]):
        return None
    place = np.empty(len(orders[0]), np.int64)
    place[orders[1]] = orders[0]
    moved = np.flatnonzero((rows[0] != rows[1]).any(axis=1))
    return (int(moved[0]), int(place[moved[0]])) if moved.size else None


def _arrays(before: BatchNorm, after: BatchNorm) -> Iterator[str]:
    """Yield what became of each array by a rule of its own, and those that changed otherwise."""
    others = []
    epsilons = {layer.epsilon for layer in (before, after) if layer.epsilon}
    for name in before.arrays:
        old, new = before.arrays[name], after.arrays[name]
        if same_values(old, new):
            continue
        said = _clipped(name, old, new) or _by_epsilon(name, old, new, epsilons) or _multiplied(name, old, new)
        if said is None:
            others.append(name)
        else:
            yield said
    if others and len(others) < len(before.arrays):
        yield f"{' and '.join(map(printable, others))} changed, the rest did not"


def _clipped(name: str, old: Array, new: Array) -> str | None:
    """Return that what was negative is zero now; where everything was, it is no more than a factor of zero."""
    negative = old.ravel() < 0
    if not negative.any() or negative.all() or not same_values(np.maximum(old, 0), new):
        return None
    return f"{name} clipped at 0: it was negative in {int(negative.sum())} of {old.size} channels"


def _by_epsilon(name: str, old: Array, new: Array, epsilons: set[float]) -> str | None:
    """Return that epsilon was added to the variance, or taken from it."""
    if name != "moving_variance":
        return None
    a, b = _wide(old), _wide(new)
    room = 4 * _unit(old, new) * (np.abs(a) + np.abs(b))
    for epsilon in sorted(epsilons):
        for sign, word in ((1, "higher"), (-1, "lower")):
            off = np.abs(b - a - sign * epsilon)
            # Where the room is as wide as epsilon itself, the channel tells nothing.
            telling = room < epsilon / 4
            if telling.any() and bool((off <= room + _unit(old, new) * epsilon).all()):
                return f"{name} {word} by {epsilon:g}, which is epsilon, in every channel"
    return None


def _multiplied(name: str, old: Array, new: Array) -> str | None:
    factor = _common_factor(old, new)
    if factor is None:
        return None
    if factor == 0:
        return f"{name} is 0 in every channel now"
    said = f"{name} multiplied by {factor:.7g} in every channel"
    n = bessel(factor) if name == "moving_variance" else None
    return said if n is None else f"{said}, which is {'n/(n-1)' if factor > 1 else '(n-1)/n'} for n = {n}"


def _common_factor(old: Array, new: Array) -> float | None:
    """Return the factor that takes every value to the new one within rounding; None if there is none to be seen."""
    a, b = _wide(old), _wide(new)
    live = a != 0
    if np.count_nonzero(live) < 2 or b[~live].any() or not np.isfinite(a).all() or not np.isfinite(b).all():
        return None
    ratio = b[live] / a[live]
    # Each value was rounded to its type, and the factor perhaps as well.
    off = 4 * _unit(old, new) * np.abs(ratio)
    low, high = float((ratio - off).max()), float((ratio + off).min())
    return nicest(low, high, bessel=True) if low <= high else None


def _wide(array: Array) -> Float64:
    return widened(array).ravel()


def _unit(old: Array, new: Array) -> float:
    return max(precision(str(array.dtype)).unit for array in (old, new))


def borrowed(before: BatchNorm, after: BatchNorm, held: Mapping[tuple[str, str], Array]) -> str | None:
    """Return which arrays of a layer hold, bit for bit, what arrays of other layers held.

    Args:
        before: the layer as it was.
        after: the layer as it is.
        held: arrays of all layers of the first file, by the names of layer and parameter.

    Arrays whose values are all alike, as before training, may be anybody's and are passed over.
    """
    found = {}
    for name, array in after.arrays.items():
        if name in before.arrays and same_values(before.arrays[name], array):
            continue
        if array.size < 2 or not (array.ravel() != array.ravel()[0]).any():
            continue
        source = next(
            (place for place, other in held.items() if place[0] != before.name and same_values(other, array)), None
        )
        if source is not None:
            found[name] = source
    if not found:
        return None
    listed = ", ".join(f"{name} holds {source} of {printable(layer)}" for name, (layer, source) in found.items())
    return f"values of another layer: {listed}: the arrays were assigned in another order"
