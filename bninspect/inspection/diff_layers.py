"""How two batch-norm layers differ: bit for bit, as maps of x, and by which simple rule one came from the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.rounding import bessel, narrowed, nicest
from bninspect.records import PARAMETERS, Array, BatchNorm, Statistics
from bninspect.safe_text import printable

_SETTINGS = ("epsilon", "momentum", "statistics")
_FELT = {"epsilon", "statistics", "axis"}
"""Settings that the output depends on; momentum is not used at inference."""
_SLACK = 8.0
"""Unit roundoffs by which the same scale or shift may differ, computed in another order."""


class Verdict(StrEnum):
    """What became of a layer."""

    EQUAL = "equal"
    SAME_MAP = "same map"
    """Other parameters, but the same scale * x + shift within rounding: folded, or another epsilon that is not felt."""
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """How one parameter array changed. Numbers that are not finite become null in JSON."""

    count: int
    """Channels that changed."""
    channel: int
    """The one that changed most."""
    before: float
    after: float
    largest: float
    """|after - before| there."""


@dataclass(frozen=True)
class LayerDifference:
    """What became of one layer."""

    before: str | None
    """Name in the first file; None if the layer was added."""
    after: str | None
    matched_by: str
    """`name`, `parameters` or `order`; empty for a layer without a counterpart."""
    verdict: Verdict
    channels: int
    parameters: Mapping[str, Change] = field(default_factory=dict)
    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings that both files state and that differ: before and after."""
    reasons: tuple[str, ...] = ()
    """What the change is, where it has a name."""


def difference(before: BatchNorm, after: BatchNorm, matched_by: str, *, one_format: bool = False) -> LayerDifference:
    """Compare two layers that belong together; their axes only if they are of `one_format`: others order them anew."""
    settings = {
        name: (old, new)
        for name in _SETTINGS
        for old, new in [(getattr(before, name), getattr(after, name))]
        if old is not None and new is not None and old != new
    }
    if one_format and _moved(before.axis, after.axis):
        settings["axis"] = (before.axis, after.axis)
    alike = before.arrays.keys() == after.arrays.keys() and all(
        same_values(before.arrays[name], after.arrays[name]) for name in before.arrays
    )
    reasons: tuple[str, ...] = ()
    if alike and not _FELT & settings.keys():
        verdict = Verdict.EQUAL
    elif "axis" not in settings and same_map(before, after):
        verdict, reasons = Verdict.SAME_MAP, tuple(_maps(before, after, settings))
    else:
        verdict, reasons = Verdict.CHANGED, (*_settings(settings), *_changes(before, after))
    return LayerDifference(
        before.name,
        after.name,
        matched_by,
        verdict,
        after.channels,
        {name: change for name in PARAMETERS if (change := _change(before, after, name)) is not None},
        settings,
        reasons,
    )


def _moved(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> bool:
    """Return whether two axes cannot be the same one: -1 and 3 may be."""
    if before is None or after is None:
        return False
    return before != after and {axis < 0 for axis in before} == {axis < 0 for axis in after}


def same_values(a: Array, b: Array) -> bool:
    """Return whether two arrays hold the same numbers in the same order, whatever their types; NaN is like NaN."""
    return a.size == b.size and np.array_equal(a.ravel(), b.ravel(), equal_nan=True)


def _change(before: BatchNorm, after: BatchNorm, name: str) -> Change | None:
    old, new = before.arrays.get(name), after.arrays.get(name)
    if old is None or new is None or old.size != new.size or same_values(old, new):
        return None
    a, b = old.ravel().astype(np.float64), new.ravel().astype(np.float64)
    with np.errstate(all="ignore"):
        off = np.nan_to_num(np.abs(b - a), nan=np.inf, posinf=np.inf)
    off[np.isnan(a) & np.isnan(b) | (a == b)] = 0
    worst = int(off.argmax())
    return Change(int(np.count_nonzero(off)), worst, float(a[worst]), float(b[worst]), float(off[worst]))


@dataclass(frozen=True, eq=False)
class _Map:
    """scale * x + shift in float64, and by how much each may be off from being stored and computed in its type."""

    scale: Float64
    shift: Float64
    scale_error: Float64
    shift_error: Float64


def same_map(before: BatchNorm, after: BatchNorm) -> bool:
    """Return whether two layers map x alike, within the rounding of their stored types."""
    a, b = _map(before), _map(after)
    if a is None or b is None or a.scale.shape != b.scale.shape:
        return False
    with np.errstate(all="ignore"):
        scale = np.abs(a.scale - b.scale) <= a.scale_error + b.scale_error
        shift = np.abs(a.shift - b.shift) <= a.shift_error + b.shift_error
    return bool(scale.all() and shift.all())


def _map(layer: BatchNorm) -> _Map | None:
    """Return the map of a layer; None if it has none of its own or something of it is not known."""
    mean, variance = layer.moving_mean, layer.moving_variance
    known = list(layer.arrays.values())
    if not known or len({array.size for array in known}) != 1 or layer.undecided is not None:
        return None
    gamma = _column(layer.gamma, known[0].size, 1.0)
    beta = _column(layer.beta, known[0].size, 0.0)
    unit = _SLACK * max(precision(kind).unit for kind in layer.dtype.split("+") if kind)
    if layer.statistics is Statistics.FOLDED:
        return _Map(gamma, beta, unit * np.abs(gamma), unit * np.abs(beta))
    if layer.statistics is not Statistics.MOVING or mean is None or variance is None or layer.epsilon is None:
        return None
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance.ravel().astype(np.float64) + layer.epsilon)
        moved = mean.ravel() * scale
        shift = beta - moved
    return _Map(scale, shift, unit * np.abs(scale), unit * (np.abs(beta) + np.abs(moved)))


def _column(array: Array | None, size: int, neutral: float) -> Float64:
    return np.full(size, neutral) if array is None else array.ravel().astype(np.float64)


def _maps(before: BatchNorm, after: BatchNorm, settings: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """Yield why the parameters differ although the maps do not."""
    for layer, other in ((after, before), (before, after)):
        if _is_folded(layer) and not _is_folded(other):
            yield "mean and variance are folded into gamma and beta " + ("now" if layer is after else "no longer")
    if "epsilon" in settings:
        yield f"epsilon {settings['epsilon'][0]:g} became {settings['epsilon'][1]:g}, which no channel feels"
    if before.arrays.keys() == after.arrays.keys() and (kind := _rounded(before, after)) is not None:
        yield f"the parameters are rounded to {kind}"
    for name in sorted(before.arrays.keys() ^ after.arrays.keys()):
        if name in {"gamma", "beta"}:
            yield f"{name} is {'1' if name == 'gamma' else '0'} in one file, and left out in the other"


def _settings(settings: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    if "epsilon" in settings:
        yield f"epsilon {settings['epsilon'][0]:g} became {settings['epsilon'][1]:g}"
    if "axis" in settings:
        yield f"axis {_listed(settings['axis'][0])} became {_listed(settings['axis'][1])}"
    if "statistics" in settings:
        yield f"{settings['statistics'][0]} statistics became {settings['statistics'][1]} statistics"


def _listed(axes: tuple[int, ...]) -> str:
    return ", ".join(map(str, axes))


def _is_folded(layer: BatchNorm) -> bool:
    mean, variance = layer.moving_mean, layer.moving_variance
    if mean is None or variance is None:
        return layer.statistics is Statistics.FOLDED
    # Some keep sqrt(variance + epsilon) at 1 by a variance of 1 - epsilon (Detectron2).
    off = np.abs(variance.astype(np.float64) - 1)
    return not mean.any() and bool((off <= 2 * abs(layer.epsilon or 0) + 1e-6).all())


def _changes(before: BatchNorm, after: BatchNorm) -> Iterator[str]:
    """Yield what the change is, where it has a name."""
    if before.channels != after.channels:
        yield f"{before.channels} channels became {after.channels}"
        return
    gone = [name for name in before.arrays if name not in after.arrays]
    new = [name for name in after.arrays if name not in before.arrays]
    if gone:
        yield f"{' and '.join(gone)} left out"
    if new:
        yield f"{' and '.join(new)} added"
    if gone or new:
        return
    if (kind := _rounded(before, after)) is not None:
        yield f"the parameters are rounded to {kind}"
        return
    if (names := _exchanged(before, after)) is not None:
        yield f"arrays exchanged: {names}"
        return
    if (order := _reordered(before, after)) is not None:
        yield f"the channels are in another order: channel {order[0]} holds what channel {order[1]} held"
        return
    yield from _factors(before, after)


def _rounded(before: BatchNorm, after: BatchNorm) -> str | None:
    """Return the narrow type that every parameter was rounded to, if there is one and it made a difference."""
    if all(same_values(before.arrays[name], after.arrays[name]) for name in before.arrays):
        return None
    for kind in ("float16", "bfloat16"):
        if all(
            same_values(narrowed(before.arrays[name].astype(np.float64), kind), after.arrays[name].astype(np.float64))
            for name in before.arrays
        ):
            return kind
    return None


def _exchanged(before: BatchNorm, after: BatchNorm) -> str | None:
    """Return which arrays hold what others held, if all of them are among the old ones."""
    sources = {}
    for name, array in after.arrays.items():
        found = [old for old, other in before.arrays.items() if same_values(other, array)]
        if not found:
            return None
        sources[name] = name if name in found else found[0]
    moved = [f"{name} holds {source}" for name, source in sources.items() if source != name]
    return ", ".join(moved) or None


def _reordered(before: BatchNorm, after: BatchNorm) -> tuple[int, int] | None:
    """Return a channel and where its parameters were, if all channels are there in another order."""
    rows = [
        np.stack([array.ravel().astype(np.float64) for array in layer.arrays.values()], axis=1)
        for layer in (before, after)
    ]
    orders = [np.lexsort(each.T) for each in rows]
    if not np.array_equal(rows[0][orders[0]], rows[1][orders[1]]):
        return None
    place = np.empty(len(orders[0]), np.int64)
    place[orders[1]] = orders[0]
    moved = np.flatnonzero((rows[0] != rows[1]).any(axis=1))
    return (int(moved[0]), int(place[moved[0]])) if moved.size else None


def _factors(before: BatchNorm, after: BatchNorm) -> Iterator[str]:
    """Yield the arrays that changed by one factor common to all channels, and those that changed otherwise."""
    others = []
    for name in before.arrays:
        if same_values(before.arrays[name], after.arrays[name]):
            continue
        factor = _common_factor(before.arrays[name], after.arrays[name])
        if factor is None:
            others.append(name)
            continue
        said = f"{name} multiplied by {factor:.7g} in every channel"
        n = bessel(factor) if name == "moving_variance" else None
        yield said if n is None else f"{said}, which is {'n/(n-1)' if factor > 1 else '(n-1)/n'} for n = {n}"
    if others and len(others) < len(before.arrays):
        yield f"{' and '.join(map(printable, others))} changed, the rest did not"


def _common_factor(old: Array, new: Array) -> float | None:
    """Return the factor that takes every value to the new one within rounding; None if there is none to be seen."""
    a, b = old.ravel().astype(np.float64), new.ravel().astype(np.float64)
    live = a != 0
    if np.count_nonzero(live) < 2 or b[~live].any() or not np.isfinite(a).all() or not np.isfinite(b).all():
        return None
    ratio = b[live] / a[live]
    # Each value was rounded to its type, and the factor perhaps as well.
    off = 4 * max(precision(str(array.dtype)).unit for array in (old, new)) * np.abs(ratio)
    low, high = float((ratio - off).max()), float((ratio + off).min())
    return nicest(low, high, bessel=True) if low <= high else None
