"""What is said of data and stored statistics."""

from __future__ import annotations

from bninspect.records import DataFit, DataReport, Departure
from bninspect.safe_text import printable

UNEXPLAINED = (
    "the data is not like that of the training, or the statistics lag behind the weights (still training, "
    "averaged, pruned, fine-tuned): bninspect recalibrate cures the second"
)


def difference(fit: DataFit) -> str:
    """Return by how much a layer differs from the data."""
    return "the stored statistics are not those of the data: " + "; ".join(
        text for text in (_of_mean(fit), _of_variance(fit)) if text
    )


def small(fit: DataFit) -> str:
    """Return by how much a layer is off, without that it counts."""
    largest = max(fit.mean.effect or 0.0, fit.variance.effect or 0.0)
    return (
        f"off by more than chance explains, but by less than {fit.tolerance:g}, which is common: {largest:.2g} at most"
    )


def noise(about: DataReport) -> str:
    """Return that a layer fits only as in training."""
    layers = printable(about.noise[0]) + (f" and {len(about.noise) - 1} more" if len(about.noise) > 1 else "")
    return f"the statistics are those of the data with dropout or augmentation as in training ({layers}), not without"


def _of_mean(fit: DataFit) -> str:
    part = fit.mean
    if not part.beyond:
        return ""
    return f"mean off by {_number(part.effect)} deviations (z {_number(part.z)}) in channel {part.channel}{_more(part)}"


def _of_variance(fit: DataFit) -> str:
    part = fit.variance
    if not part.beyond:
        return ""
    what = f"variance {_number(part.measured)} instead of {_number(part.stored)} (z {_number(part.z)})"
    return f"{what} in channel {part.channel}{_more(part)}"


def _more(part: Departure) -> str:
    return f" and {part.beyond - 1} more" if part.beyond > 1 else ""


def _number(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.3g}"


def too_little(fit: DataFit) -> str:
    """Return why nothing can be said of a layer, and how much more data is needed."""
    if fit.samples < 2:
        return "a single sample does not tell how samples vary: about 32 are needed"
    return (
        f"{fit.samples} samples show only a shift of {_number(fit.resolution)} deviations or more: "
        f"{fit.needed} are needed"
    )


def cure(about: DataReport) -> str:
    """Return what explains that a layer differs, and what to do."""
    if not about.changes:
        near = f"; the nearest is: {about.nearest.sentence}" if about.nearest is not None else ""
        return f"none of {about.tried} changes of the input explains it: {UNEXPLAINED}{near}"
    first, *others = about.changes
    ties = f"; {len(others)} more cannot be told apart from it here" if others else ""
    return f"{first.sentence}{ties}"
