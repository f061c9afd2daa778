"""Which channel's parameters does each channel use? Found by matching measured lines with those of the parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bninspect.arithmetic.rounding import rounded
from bninspect.causes.deviations.sources import placed
from bninspect.causes.hypothesis import Deviation
from bninspect.causes.predict import ROLES, Reading, Role, View, inside

if TYPE_CHECKING:
    from bninspect.causes.lines import Lines

_PROVING = 3
"""Channels that must have the parameters of their neighbour."""
MOST = 8192
"""Channels of the widest layer that is tried."""


def permuted(view: View, measured: Lines) -> Iterator[Deviation]:
    """Yield the permutation of the channels under which every measured line is one of the parameters' lines."""
    channels = int(np.prod([view.sample.shape[a] for a in view.sample.axis]))
    if not 2 < channels <= MOST:
        return
    fits = _fitting(view, channels, measured)
    if fits is None or np.diagonal(fits).all():
        return
    yield from _beside(fits, view, measured)
    if not fits.any(axis=1).all():
        return
    for name, sentence, order in _regular(channels):
        if fits[np.arange(channels), order].all():
            yield _moved(name, sentence, order)
            return
    order_found = _assignment(fits)
    if order_found is not None:
        moved = int(np.count_nonzero(order_found != np.arange(channels)))
        yield _moved("channels=permuted", f"the parameters of {moved} channels given to other channels", order_found)


def _beside(fits: NDArray[np.bool_], view: View, measured: Lines) -> Iterator[Deviation]:
    """Yield that all arrays were read one number early or late: at least three channels must prove it."""
    channels = len(fits)
    every = np.arange(channels)
    for step in (-1, 1):
        edge = 0 if step < 0 else channels - 1
        inner = every[every != edge]
        if inner.size >= _PROVING and fits[inner, inner + step].all() and not fits[edge].any():
            # The last mean is the first variance then, and the root of a negative one is not a number.
            known = bool(np.isfinite(view.sample.y[view.channel == edge]).any())
            line = (float(measured.slope[edge]), float(measured.intercept[edge])) if known else (np.nan, np.nan)
            yield read_beside(step, channels, *line)


def read_beside(step: int, channels: int, slope: float, intercept: float) -> Deviation:
    """Return that all arrays were read one number early or late: a header that was read too short or too long.

    Args:
        step: from a channel to the one whose parameters it has, -1 or 1.
        channels: of the layer.
        slope: of the first channel, or the last: what stands before the arrays or after them may be anything.
        intercept: of the same.
    """
    word, edge, neighbour = ("early", 0, "before") if step < 0 else ("late", channels - 1, "after")
    sentence = (
        f"all arrays read one number {word}, as with a header of another length: each channel has the parameters of "
        f"the one {'before' if step < 0 else 'after'} it, and channel {edge} what stands {neighbour} the arrays"
    )
    change = partial(_read_beside, step, edge, slope, intercept)
    return Deviation(f"arrays=one {word}", "arrays", sentence, change, affine=True)


def _read_beside(step: int, edge: int, slope: float, intercept: float, reading: Reading, view: View) -> Reading:
    at_edge = view.channel == edge
    channel = np.where(at_edge, edge, view.channel + step)
    whatever: Mapping[Role, float] = {
        "gamma": slope * float(np.sqrt(1.0 + reading.epsilon)),
        "beta": intercept,
        "mean": 0.0,
        "variance": 1.0,
    }
    return reading.using({role: np.where(at_edge, whatever[role], view.column(role, channel)) for role in ROLES})


def _moved(name: str, sentence: str, order: NDArray[np.int64]) -> Deviation:
    moved = np.flatnonzero(order != np.arange(order.size))[:16]
    details = {"from": {str(int(k)): int(order[k]) for k in moved}}
    return replace(placed(name, sentence, lambda view: order[view.channel]), details=details)


def _fitting(view: View, channels: int, found: Lines) -> NDArray[np.bool_] | None:
    """Return for channel k of the output and parameters j whether they belong together as far as one can see."""
    if not np.isfinite(found.slope).all():
        return None
    every = np.arange(channels)
    gamma, beta, mean, variance = (view.column(role, every) for role in ("gamma", "beta", "mean", "variance"))
    with np.errstate(all="ignore"):
        slope = gamma / inside(variance, rounded(view.epsilon, view.sample.arithmetic))
        intercept = beta - mean * slope
        fits = np.abs(found.slope[:, np.newaxis] - slope) <= found.slope_error[:, np.newaxis]
        fits &= np.abs(found.intercept[:, np.newaxis] - intercept) <= found.intercept_error[:, np.newaxis]
    return fits


def _regular(channels: int) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Yield the orders that have a name."""
    every = np.arange(channels)
    yield "channels=reversed", "the parameters of the channels in reverse order", every[::-1]
    for step in range(1, channels):
        signed = step if step <= channels // 2 else step - channels
        yield (
            f"channels=rolled {signed:+d}",
            f"the parameters shifted by {signed:+d} channels",
            (every + step) % channels,
        )
    for groups in range(2, channels):
        if channels % groups == 0:
            order = every.reshape(groups, -1).T.ravel()
            yield f"channels=shuffled {groups}", f"the channels shuffled in {groups} groups, as in ShuffleNet", order


def _assignment(fits: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """Return for each row a column of its own that fits (Kuhn's augmenting paths), or None if there is none."""
    choices = [np.flatnonzero(row).tolist() for row in fits]
    owner: dict[int, int] = {}
    for row in range(len(choices)):
        if row in choices[row]:  # what may stay in its place stays if it can
            choices[row].remove(row)
            choices[row].insert(0, row)
        if not _augment(row, choices, owner):
            return None
    order = np.empty(len(choices), np.int64)
    for column, row in owner.items():
        order[row] = column
    return order


def _augment(start: int, choices: list[list[int]], owner: dict[int, int]) -> bool:
    """Find a column for a row, moving others to further choices of theirs; breadth first."""
    reached: dict[int, int] = {}
    queue = [start]
    for row in queue:
        for column in choices[row]:
            if column in reached:
                continue
            reached[column] = row
            if column not in owner:
                _flip(column, start, reached, owner)
                return True
            queue.append(owner[column])
    return False


def _flip(column: int, start: int, reached: dict[int, int], owner: dict[int, int]) -> None:
    """Give every column on the path that led here to the row that reached it."""
    while True:
        row = reached[column]
        previous = next((other for other, of in owner.items() if of == row), None)
        owner[column] = row
        if row == start or previous is None:
            return
        column = previous
