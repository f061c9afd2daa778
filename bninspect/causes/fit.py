"""Does a hypothesis explain a sample? Every element must lie within the bound of that hypothesis, none excepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bninspect.arithmetic.bounds import precision
from bninspect.arithmetic.formula import Float64
from bninspect.causes.hypothesis import Hypothesis, read
from bninspect.causes.lines import Lines, lines
from bninspect.causes.predict import Prediction, View, predict, refuted
from bninspect.causes.samples import Flat

FEW = 256
"""Elements that a hypothesis is tried on first: most fail there."""

LEAST_SHARE = 0.5
"""Of the unexplained outputs that a hypothesis must have a bound for: one that promises little explains nothing."""


@dataclass(frozen=True, eq=False)
class Marks:
    """How a hypothesis does on a view: for each element the error in bounds, infinite where it contradicts."""

    ratio: Float64
    measured: NDArray[np.bool_]
    """Where prediction and output are both numbers, and the prediction has a bound: the rest proves nothing."""


@dataclass(frozen=True)
class Fit:
    """How well a hypothesis fits that no element contradicts."""

    ratio: float
    """Largest error in bounds."""
    share: float
    """Share of the finite outputs that the formula does not explain for which the hypothesis has a bound."""


@dataclass(frozen=True, eq=False)
class LayerViews:
    """The views of all samples of a layer, which elements the formula does not explain, and a few to try first."""

    views: tuple[View, ...]
    lines: tuple[Lines, ...]
    unexplained: tuple[NDArray[np.bool_], ...]
    few: tuple[View, ...]
    few_lines: tuple[Lines, ...]
    few_unexplained: tuple[NDArray[np.bool_], ...]

    @classmethod
    def of(cls, views: Sequence[View]) -> LayerViews:
        """Judge the formula itself on all elements, and choose the few."""
        marks = [mark((), view) for view in views]
        chosen = [_chosen(view, one.ratio) for view, one in zip(views, marks, strict=True)]
        # NaN that was to be expected is not a contradiction, but nothing was compared either.
        unexplained = tuple(~((one.ratio <= 1.0) & one.measured) for one in marks)
        few = tuple(view.take(places) for view, places in zip(views, chosen, strict=True))
        return cls(
            views=tuple(views),
            lines=tuple(lines(view) for view in views),
            unexplained=unexplained,
            few=few,
            few_lines=tuple(lines(view) for view in few),
            few_unexplained=tuple(flags[places] for flags, places in zip(unexplained, chosen, strict=True)),
        )

    @property
    def matches(self) -> bool:
        """Whether the formula itself explains every element."""
        return not any(flags.any() for flags in self.unexplained)

    @property
    def bent(self) -> bool:
        """Whether the output is not affine in the input somewhere."""
        return any(bool((np.isfinite(line.slope) & ~line.affine).any()) for line in self.lines)


def mark(hypothesis: Hypothesis, view: View) -> Marks:
    """Return how far each element is from what the hypothesis says.

    Infinity is not a contradiction where the hypothesis overflows, nor NaN where it is not a number, but they explain
    nothing either; a number where it has none is one.
    """
    said = predicted(hypothesis, view)
    y, output = view.sample.y, precision(view.sample.output)
    with np.errstate(all="ignore"):
        known, finite = np.isfinite(y), np.isfinite(said.y)
        measured = known & finite & np.isfinite(said.bound)
        beyond = np.abs(said.y) + said.bound > output.largest * (1 + output.unit)
        overflow = np.isinf(y) & (np.sign(y) == np.sign(said.y)) & beyond
        silent = (~known & ~finite) | (finite & np.isnan(said.bound))
        ratio = np.where(measured, np.abs(y - said.y) / said.bound, np.where(overflow | silent, 0.0, np.inf))
    return Marks(ratio, measured | overflow)


def fit(hypothesis: Hypothesis, evidence: LayerViews) -> Fit | None:
    """Return how well a hypothesis fits; None if an element contradicts it, or if it explains too little."""
    for view in evidence.few:
        if not view.sample.half_digits and refuted(read(hypothesis, view), view.sample.y):
            return None
    if _fit(hypothesis, evidence.few, evidence.few_unexplained) is None:
        return None
    found = _fit(hypothesis, evidence.views, evidence.unexplained)
    return found if found is not None and found.share >= LEAST_SHARE else None


def _fit(hypothesis: Hypothesis, views: Sequence[View], unexplained: Sequence[NDArray[np.bool_]]) -> Fit | None:
    worst, explained, open_ = 0.0, 0, 0
    for view, flags in zip(views, unexplained, strict=True):
        marks = mark(hypothesis, view)
        most = float(marks.ratio.max(initial=0.0))
        if not most <= 1.0:
            return None
        worst = max(worst, most)
        wrong = flags & np.isfinite(view.sample.y)
        explained += int(np.count_nonzero(marks.measured & wrong))
        open_ += int(np.count_nonzero(wrong))
    return Fit(worst, explained / open_ if open_ else 0.0)


def share_explained(hypothesis: Hypothesis, evidence: LayerViews) -> float:
    """Return which share of the elements that the formula does not explain the hypothesis does, from the few."""
    explained, wrong = 0, 0
    for view, flags in zip(evidence.few, evidence.few_unexplained, strict=True):
        marks = mark(hypothesis, view)
        explained += int(np.count_nonzero((marks.ratio <= 1.0) & marks.measured & flags))
        wrong += int(np.count_nonzero(flags))
    return explained / wrong if wrong else 0.0


def _chosen(view: View, ratio: Float64) -> Flat:
    """Return the places of at most FEW elements: the worst of the worst channels, and others spread evenly."""
    if ratio.size <= FEW:
        return np.arange(ratio.size)
    order = np.argsort(-ratio, kind="stable")
    _, first = np.unique(view.channel[order], return_index=True)
    worst = order[np.sort(first)][: FEW // 2]
    spread = np.linspace(0, ratio.size - 1, FEW - worst.size).astype(np.int64)
    return np.unique(np.concatenate([worst, spread]))


def predicted(hypothesis: Hypothesis, view: View) -> Prediction:
    """Return what a hypothesis says; where numbers were typed, their last digits widen its bound."""
    said, typed = predict(read(hypothesis, view)), view.sample.half_digits
    if not typed:
        return said
    slack = typed.get("y", np.zeros(said.y.shape))
    with np.errstate(all="ignore"):
        for name, by in typed.items():
            if name != "y" and by.any():
                moved = predict(read(hypothesis, _moved(view, name, by))).y
                slack = slack + np.nan_to_num(np.abs(moved - said.y), nan=0.0, posinf=0.0)
    return replace(said, bound=said.bound + slack)


def _moved(view: View, name: str, by: Float64) -> View:
    if name == "x":
        return replace(view, sample=replace(view.sample, x=view.sample.x + by))
    return replace(view, arrays={role: array + by if role == name else array for role, array in view.arrays.items()})
