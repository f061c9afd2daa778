"""Why statistics that were computed from data may be bad ones: it is too little, or it is constant somewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from bninspect.records import BatchNorm
from bninspect.safe_text import printable
from bninspect.statistics.population import Population

_KNOWN = 0.1
"""Standard error of a mean, in deviations, from which on it is said."""


def doubts(layers: Mapping[str, BatchNorm], found: Mapping[str, Population]) -> Iterator[str]:
    """Yield what speaks against statistics, by the layers as they were and what arrived there."""
    errors = {name: _standard_error(layers[name], population) for name, population in found.items()}
    worst = max(errors, key=lambda name: errors[name], default="")
    samples = found[worst].samples if worst else 0
    if samples == 1:
        yield "1 sample does not show how samples differ: some hundred are usually enough"
    elif worst and errors[worst] > _KNOWN:
        known = f"the mean is known to {errors[worst]:.2g} deviations (standard error) in {printable(worst)}"
        yield f"{samples} samples are few: {known}; more give better statistics"
    for name, population in found.items():
        epsilon = layers[name].epsilon or 0.0
        stored = np.asarray(layers[name].moving_variance, np.float64).ravel()
        # A channel that was dead in training too has next to nothing stored.
        constant = int(((population.variance == 0) & (stored > epsilon)).sum())
        if constant:
            said = f"{constant} of {len(stored)} channels of {printable(name)} are constant over this data"
            factor = f", and what differs there is multiplied by {epsilon**-0.5:.0f}" if epsilon else ""
            yield f"{said}: their variance is 0 now{factor}"


def _standard_error(layer: BatchNorm, found: Population) -> float:
    """Return the largest standard error of a mean, in deviations."""
    if found.samples < 2:
        return math.inf
    scale = np.sqrt(found.variance + (layer.epsilon or 0.0))
    with np.errstate(all="ignore"):
        errors = found.scatter_of_mean / math.sqrt(found.samples) / scale
    return float(np.max(np.where(scale > 0, errors, 0.0), initial=0.0))
