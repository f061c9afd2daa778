"""How two batch-norm layers differ: bit for bit, as maps of x, and by which simple rule one came from the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.arithmetic.rounding import widened
from bninspect.inspection.diff_changes import changes, rounded_to, same_values
from bninspect.records import PARAMETERS, Array, BatchNorm, Statistics

_SETTINGS = ("epsilon", "momentum")
_FELT = {"epsilon", "statistics", "axis", "training", "root"}
"""Settings that the output depends on; momentum is not used at inference."""
_SLACK = 8.0
"""Unit roundoffs by which the same scale or shift may differ, computed in another order."""


class Verdict(StrEnum):
    """What became of a layer."""

    EQUAL = "equal"
    SAME_MAP = "same map"
    """Other parameters, but the same scale * x + shift within rounding: folded, or another epsilon that is not felt."""
    UNSTATED = "unstated"
    """Equal but for a setting that one of the files does not state: it may be another one."""
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
    unstated: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings that one file alone states: before and after, one of them None. What the output depends on: epsilon.
    `statistics` of a file without a graph, and `axis`, are noted only."""
    reasons: tuple[str, ...] = ()
    """What the change is, where it has a name."""


def difference(before: BatchNorm, after: BatchNorm, matched_by: str, *, one_format: bool = False) -> LayerDifference:
    """Compare two layers that belong together; their axes only if they are of `one_format`: others order them anew."""
    settings, unstated = _compared(before, after, one_format=one_format)
    alike = same_arrays(before, after)
    reasons: tuple[str, ...] = ()
    if _folds_without_epsilon(before, after):
        verdict, reasons = Verdict.UNSTATED, ("what was folded depends on an epsilon that is not stated",)
    elif "epsilon" in unstated and alike and not _FELT & settings.keys():
        verdict, reasons = Verdict.UNSTATED, (_unstated(unstated["epsilon"]),)
    elif alike and not _FELT & settings.keys():
        verdict = Verdict.EQUAL
    elif not {"axis", "training", "root"} & settings.keys() and same_map(before, after):
        verdict, reasons = Verdict.SAME_MAP, tuple(_maps(before, after, settings))
    else:
        verdict, reasons = Verdict.CHANGED, (*_settings(settings), *changes(before, after))
    return LayerDifference(
        before.name,
        after.name,
        matched_by,
        verdict,
        after.channels,
        {name: change for name in PARAMETERS if (change := _change(before, after, name)) is not None},
        settings,
        unstated,
        reasons,
    )


def _compared(
    before: BatchNorm, after: BatchNorm, *, one_format: bool
) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
    """Return the settings that differ, and those that one file alone states."""
    differ: dict[str, tuple[Any, ...]] = {}
    unstated: dict[str, tuple[Any, ...]] = {}
    for name in _SETTINGS:
        old, new = getattr(before, name), getattr(after, name)
        if old is not None and new is not None and not _same_number(old, new):
            differ[name] = (old, new)
    if (before.epsilon is None) != (after.epsilon is None) and not _needs_no_epsilon(before, after):
        unstated["epsilon"] = (before.epsilon, after.epsilon)
    if before.statistics != after.statistics:
        kinds = {before.statistics, after.statistics}
        stated = Statistics.FOLDED in kinds or (_states_mode(before) and _states_mode(after))
        known = [layer.statistics if stated or _states_mode(layer) else None for layer in (before, after)]
        (differ if stated else unstated)["statistics"] = tuple(known)
    if before.wired != after.wired:
        stated = _states_mode(before) and _states_mode(after)
        wired = [layer.wired if _states_mode(layer) else None for layer in (before, after)]
        (differ if stated else unstated)["training"] = tuple(wired)
    if before.outside_root != after.outside_root:
        differ["root"] = (before.outside_root, after.outside_root)
    if one_format and _moved(before.axis, after.axis):
        differ["axis"] = (before.axis, after.axis)
    elif (before.axis is None) != (after.axis is None) and all(array.ndim == 1 for array in before.arrays.values()):
        unstated["axis"] = (before.axis, after.axis)
    return differ, unstated


def _same_number(old: float, new: float) -> bool:
    """Return whether two settings are one number: some formats keep them in float32."""
    return old == new or np.float32(old) == np.float32(new)


def _states_mode(layer: BatchNorm) -> bool:
    """Return whether a file says how its batch norm is called: one without configuration and graph does not."""
    return layer.statistics is not Statistics.MOVING or layer.wired or layer.epsilon_source == "file"


def _needs_no_epsilon(before: BatchNorm, after: BatchNorm) -> bool:
    """Return whether the side without epsilon is a scale and shift, in which it is contained."""
    return all(layer.statistics is Statistics.FOLDED for layer in (before, after) if layer.epsilon is None)


def _folds_without_epsilon(before: BatchNorm, after: BatchNorm) -> bool:
    """Return whether one side is a scale and shift that the other, whose epsilon is unknown, may have become."""
    kinds = [layer.statistics for layer in (before, after) if layer.epsilon is None]
    return before.channels == after.channels and sorted(kinds) == [Statistics.FOLDED, Statistics.MOVING]


def _unstated(epsilon: tuple[float | None, ...]) -> str:
    old, new = epsilon
    known, where, lacking = (new, "B", "A") if old is None else (old, "A", "B")
    return f"equal but for what is not stated: epsilon is {known:g} in {where}, and not stated in {lacking}"


def same_arrays(before: BatchNorm, after: BatchNorm) -> bool:
    """Return whether two layers hold the same parameters, the one that may be gamma or beta included."""
    a, b = _decided(before, after), _decided(after, before)
    return a.keys() == b.keys() and all(same_values(a[name], b[name]) for name in a)


def _decided(layer: BatchNorm, other: BatchNorm) -> dict[str, Array]:
    """Return the parameters of a layer; one that may be gamma or beta is what the other layer has."""
    if layer.undecided is None:
        return layer.arrays
    has = [name for name in ("gamma", "beta") if name in other.arrays]
    return {**layer.arrays, has[0] if len(has) == 1 else "undecided": layer.undecided}


def _moved(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> bool:
    """Return whether two axes cannot be the same one: -1 and 3 may be."""
    if before is None or after is None:
        return False
    return before != after and {axis < 0 for axis in before} == {axis < 0 for axis in after}


def _change(before: BatchNorm, after: BatchNorm, name: str) -> Change | None:
    old, new = before.arrays.get(name), after.arrays.get(name)
    if old is None or new is None or old.size != new.size or same_values(old, new):
        return None
    a, b = widened(old).ravel(), widened(new).ravel()
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
        scale = gamma / np.sqrt(widened(variance).ravel() + layer.epsilon)
        moved = mean.ravel() * scale
        shift = beta - moved
    return _Map(scale, shift, unit * np.abs(scale), unit * (np.abs(beta) + np.abs(moved)))


def _column(array: Array | None, size: int, neutral: float) -> Float64:
    return np.full(size, neutral) if array is None else widened(array).ravel()


def _maps(before: BatchNorm, after: BatchNorm, settings: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """Yield why the parameters differ although the maps do not."""
    for layer, other in ((after, before), (before, after)):
        if _is_folded(layer) and not _is_folded(other):
            yield "mean and variance are folded into gamma and beta " + ("now" if layer is after else "no longer")
    if "epsilon" in settings:
        yield f"epsilon {settings['epsilon'][0]:g} became {settings['epsilon'][1]:g}, which no channel feels"
    if before.arrays.keys() == after.arrays.keys() and (kind := rounded_to(before, after)) is not None:
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
    if "root" in settings:
        moved = "back inside" if settings["root"][0] else "outside"
        yield f"epsilon went {moved} the square root"
    if "training" in settings:
        more, now = ("no longer", "the moving statistics") if settings["training"][0] else ("now", "the batch's own")
        yield f"training=True is {more} hard-wired (BN124): model(x) and exports normalise by {now}"


def _listed(axes: tuple[int, ...]) -> str:
    return ", ".join(map(str, axes))


def _is_folded(layer: BatchNorm) -> bool:
    mean, variance = layer.moving_mean, layer.moving_variance
    if mean is None or variance is None:
        return layer.statistics is Statistics.FOLDED
    # Some keep sqrt(variance + epsilon) at 1 by a variance of 1 - epsilon (Detectron2).
    off = np.abs(widened(variance) - 1)
    return not mean.any() and bool((off <= 2 * abs(layer.epsilon or 0) + 1e-6).all())
