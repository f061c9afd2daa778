"""What became of the statistics of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bninspect.records.vocabulary import Estimator


@dataclass(frozen=True)
class RecalibratedLayer:
    """A layer with new statistics. Shifts of a mean are in deviations, of a variance in its logarithm."""

    name: str
    channels: int
    values: int
    """Values of each channel that were counted."""
    estimator: Estimator
    """The variance that was written: the one that the training of its framework keeps."""
    mean_moved: float | None
    """Largest shift of a mean from what was stored before; None: not finite."""
    variance_moved: float | None
    mean_off: float
    """How far a last pass over the data is from what was written, at most; 0 within the type that the file keeps."""
    variance_off: float


@dataclass(frozen=True)
class Recalibrated:
    """A copy of a model with the statistics of data."""

    path: str
    output: str
    runtime: str
    data: str
    samples: int
    batch: int
    """Samples in a forward pass."""
    depths: int
    """Of layers that were measured together, one behind the other."""
    passes: int
    """Over the data: one from depth to depth, or one for each if the model could not be taken apart; one at the end."""
    seconds: float
    layers: tuple[RecalibratedLayer, ...]
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
