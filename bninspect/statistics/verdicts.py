"""From what arrived at the layers of a model to a verdict on each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bninspect.records import BatchNorm, DataFit
from bninspect.statistics.fit import Trained, critical, judge
from bninspect.statistics.measure import Measured


def judged(
    layers: Sequence[BatchNorm], measured: Measured, trained: Trained, tolerance: float
) -> Mapping[str, DataFit]:
    """Return whether each layer that was reached fits, in the order in which they were reached."""
    by_name = {layer.name: layer for layer in layers}
    channels = sum(layer.channels for layer in layers)
    fits: dict[str, DataFit] = {}
    first = ""
    for name, found in measured.populations.items():
        if found.finite:
            limit = critical(channels, found.samples)
            fit = judge(by_name[name], found, trained, limit, tolerance)
            fits[name] = replace(fit, inherited=first) if fit.verdict == "differs" else fit
            first = first or (name if fit.verdict == "differs" else "")
    return fits


def distance(fits: Iterable[DataFit]) -> float:
    """Return how far layers are off, all in all: the root of the mean square of their typical and largest effects."""
    parts = [part for fit in fits for part in (fit.mean, fit.variance)]
    squares = [_square(part.effect) + _square(part.effect_median) for part in parts]
    return math.sqrt(sum(squares) / max(1, len(squares)))


def _square(effect: float | None) -> float:
    return math.inf if effect is None else effect * effect
