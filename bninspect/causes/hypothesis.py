"""A deviation: one thing that a kernel may do differently from the formula. Hypotheses are made of one or two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from bninspect.causes.predict import Reading, View

Change: TypeAlias = Callable[[Reading, View], Reading]

AXES = (
    "layer",
    "arrays",
    "roles",
    "precision",
    "variance",
    "statistics",
    "epsilon",
    "gamma",
    "beta",
    "mean",
    "root",
    "around",
    "factor",
)
"""What a deviation is about, in the order in which those of a hypothesis are applied. Two on one axis exclude each
other. First comes what chooses the numbers, then what changes them, then what is computed with them."""


@dataclass(frozen=True, eq=False)
class Deviation:
    """One departure from the formula."""

    name: str
    """A stable identifier; what is chosen among many follows `=`, as in `epsilon=1e-05`."""
    axis: str
    sentence: str
    """What the kernel does, in plain words."""
    change: Change
    details: Mapping[str, Any] = field(default_factory=dict)
    affine: bool = True
    """Whether the output stays affine in the input, channel by channel."""
    unless: frozenset[str] = frozenset()
    """Names of deviations that this one includes because its bounds are wider: where one fits, this says nothing."""


Hypothesis: TypeAlias = tuple[Deviation, ...]


def read(hypothesis: Hypothesis, view: View) -> Reading:
    """Return how the elements of a view are computed under a hypothesis."""
    reading = view.reading()
    with np.errstate(all="ignore"):
        for deviation in sorted(hypothesis, key=lambda one: AXES.index(one.axis)):
            reading = deviation.change(reading, view)
    return reading
