"""What the detective says besides the causes: what would tell ties apart, and what a difference looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bninspect.causes.fit import LayerViews, share_explained

if TYPE_CHECKING:
    from bninspect.causes.hypothesis import Deviation, Hypothesis
    from bninspect.causes.lines import Lines
    from bninspect.causes.predict import View
    from bninspect.causes.samples import Flat

_PROBE = "a layer whose parameters are distinct random numbers in every channel"
_BORDER = 3
_FEW_OFF = 1 / 500
"""Share of the values that may be off alone: what a formula does wrong, it does wherever its input is alike."""

FEW_DIGITS = "so few digits are known that a wrong formula may fit by chance: give more digits, or more numbers"


def one_channel(low: float, high: float) -> str:
    """Return what is said where the formula fits with an epsilon that a single channel gives."""
    return (
        f"the formula fits with an epsilon from {low:.4g} to {high:.4g}, which a single channel gives and no other "
        "confirms: state it with --epsilon, or give outputs of several channels"
    )


def separated_by(first: Hypothesis, own: Hypothesis, found: Sequence[Hypothesis], evidence: LayerViews) -> str:
    """Return what observation would tell a hypothesis from the first that fits, or the first from the second."""
    if len(found) < 2:
        return ""
    other = found[1] if own == first else first
    differing = [one for one in (*own, *other) if not (one in own and one in other)]
    kinds = {one.name.partition("=")[0] for one in differing}
    axes = {one.axis for one in differing}
    if axes <= {"epsilon", "root"}:
        return f"a channel with a variance below {_visible(differing, evidence):.0e}"
    if kinds <= {"variance-factor", "gamma-factor"}:
        return "a channel with a variance near epsilon"
    if kinds & {"gamma-absolute", "gamma-absolute-epsilon"}:
        return "a channel with a negative gamma"
    if axes == {"statistics"}:
        return "a batch of several different samples, each with several positions"
    if kinds <= {"relu-after", "relu6-after"}:
        return "an output above 6"
    if axes <= {"around"}:
        return "outputs on both sides of zero"
    return _PROBE


def _visible(differing: Sequence[Deviation], evidence: LayerViews) -> float:
    """Return the variance below which two epsilons differ by more than rounding: some 1e5 times their difference."""
    stored = evidence.views[0].epsilon
    values = [float(one.details.get("epsilon", 0.0 if np.isnan(stored) else stored)) for one in differing]
    apart = max(values) - min(values)
    return 1e5 * (apart or max(*values, 1e-12))


def remarks(evidence: LayerViews, singles: Sequence[Deviation]) -> tuple[str, ...]:
    """Return what can be said of a difference that no hypothesis explains."""
    said = []
    for view, found, unexplained in zip(evidence.views, evidence.lines, evidence.unexplained, strict=True):
        lost = unexplained & ~np.isfinite(view.sample.y)
        if unexplained.any() and np.array_equal(lost, unexplained) and not lost.all():
            said.append(_lost(view, lost))
        elif 0 < np.count_nonzero(unexplained) <= _FEW_OFF * unexplained.size:
            return (_alone(view, np.flatnonzero(unexplained)),)
        elif unexplained.any():
            said += [_shape(view, found), *_places(view, np.flatnonzero(unexplained))]
    shares = [(share_explained((single,), evidence), single) for single in singles]
    share, nearest = max(shares, key=lambda pair: pair[0], default=(0.0, None))
    if nearest is not None and share >= 0.5:
        said.append(f"nearest: {nearest.sentence} (explains {share:.0%} of the values beyond the bound)")
    return tuple(dict.fromkeys(said))


def _lost(view: View, lost: NDArray[np.bool_]) -> str:
    channels = np.unique(view.channel[lost])
    where = f"channel {channels[0]}" if channels.size == 1 else f"{channels.size} channels, first in {channels[0]}"
    return f"every output that is a number is right; {np.count_nonzero(lost)} are not numbers, in {where}"


def _alone(view: View, wrong: Flat) -> str:
    """Return where the few values are that are off while all others are right: they tell of no cause."""
    first = ", ".join(str(int(index[wrong[0]])) for index in view.sample.coordinates)
    some, place = ("1 value is", "at") if wrong.size == 1 else (f"{wrong.size} values are", "the first at")
    rest = view.sample.y.size - wrong.size
    return f"{some} off, {place} [{first}], and the other {rest:,} are right: no formula does that"


def _shape(view: View, found: Lines) -> str:
    measured = np.isfinite(found.slope)
    if not np.isfinite(view.sample.y).any():
        return "no output is a finite number: NaN and infinity explain nothing"
    if not measured.any():
        return "there are too few different inputs to say whether the output is affine in the input"
    bent = np.flatnonzero(measured & ~found.affine)
    if not bent.size:
        return "the output is affine in the input: a parameter, epsilon or the assignment of channels differs"
    return (
        f"the output is not affine in the input in {bent.size} of {int(measured.sum())} channels, first in "
        f"{bent[0]}: an activation, a quantisation, or statistics of the data"
    )


def _places(view: View, wrong: Flat) -> list[str]:
    """Return where the unexplained elements are, if they are not everywhere."""
    said = []
    channels = np.unique(view.channel[wrong])
    if channels.size < np.unique(view.channel).size:
        listed = ", ".join(str(channel) for channel in channels[:8]) + (", ..." if channels.size > 8 else "")
        said.append(f"only in {channels.size} of {np.unique(view.channel).size} channels: {listed}")
    sample = view.sample
    spatial = [a for a in range(1, len(sample.shape)) if a not in sample.axis and sample.shape[a] > 2 * _BORDER]
    coordinates = sample.coordinates
    if spatial:
        edge = np.minimum.reduce([np.minimum(coordinates[a], sample.shape[a] - 1 - coordinates[a]) for a in spatial])
        width = int(edge[wrong].max()) + 1
        if width <= _BORDER:
            said.append(
                f"only within {width} of the border: a normalisation folded into a convolution that pads with zeros"
            )
    for name, values in (("input", sample.x), ("output", sample.y)):
        if (values[wrong] < 0).all() and (values >= 0).any():
            said.append(f"only where the {name} is negative: an activation")
    return said
