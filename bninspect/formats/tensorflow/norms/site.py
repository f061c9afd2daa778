"""The record of a place where a graph normalises, and what is read off its numbers and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.formats.algebra import Leaf
from bninspect.formats.tensorflow.graph.flatten import Tensor
from bninspect.records import Form, Statistics


@dataclass(frozen=True, eq=False)
class NormSite:
    """One place where a flat graph normalises."""

    name: str
    """Name of the node that returns y, in its own function."""
    nodes: tuple[str, ...]
    """Flat nodes that lead from x to y, in their order; the parameters come to them from outside."""
    x: Tensor
    y: Tensor
    parameters: Mapping[str, Leaf]
    """By standard name, those that there are."""
    epsilon: float | None
    axis: tuple[int, ...] | None
    """-1 is the last one; `None` where only the parameters' shape tells."""
    form: Form = Form.UNKNOWN
    statistics: Statistics = Statistics.MOVING
    output: str = "float32"
    """Type of y."""
    arithmetic: str = "float32"
    hidden: str = ""
    """Why x and y cannot be observed; empty if they can."""
    notes: tuple[str, ...] = ()
    """What is odd about it."""
    outside_root: bool = False
    """Whether epsilon is added to the deviation instead of the variance."""


def axes_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes that a parameter of this shape runs along: those longer than 1, the last if there is none."""
    long = tuple(axis for axis, length in enumerate(shape) if length != 1)
    return (-1,) if long in ((), (len(shape) - 1,)) else long


def shortest(value: float) -> float:
    """Return the shortest decimal that is the same float32: 0.001, not 0.0010000000474974513."""
    return float(str(np.float32(value)))


def checked_epsilon(epsilon: float | None) -> float | None:
    """Return an epsilon that is a finite number.

    Raises:
        DamagedFile: it is not.
    """
    if epsilon is not None and not -1e30 < epsilon < 1e30:
        raise DamagedFile("the graph is damaged", why=f"an epsilon is {epsilon}")
    return epsilon
