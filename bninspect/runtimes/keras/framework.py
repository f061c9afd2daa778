"""What Keras 3 and tf-keras do differently, as one record; everything else about running them is shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bninspect.records import Checkpoint, Estimator, Form
from bninspect.runtimes.runtime import RunSettings


@dataclass(frozen=True)
class Training:
    """What is known of how a layer takes a training step."""

    estimator: Estimator
    """The variance that its kernel averages."""
    decay: str
    """Type to which it rounds 1 - momentum."""
    one_pass: bool
    """Whether it computes the variance as E[x^2] - E[x]^2."""
    honours_mask: bool
    single: bool = True
    """Whether the moments of one value per channel are numbers."""
    refusal: str = ""
    """Why its training step is none of plain batch normalisation; empty if it is."""


@dataclass(frozen=True)
class Framework:
    """A Keras that has been imported."""

    title: str
    """Name and version, for instance `tf-keras 2.21.0`."""
    keras: Any
    """The module."""
    batch_norm: type[Any]
    """The class through whose `call` every batch-norm layer goes, subclasses included."""
    load: Callable[[Checkpoint, RunSettings], tuple[Any, tuple[str, ...]]]
    """The model of the file, loaded by the framework's own loader, and notes. Raises whatever the framework raises."""
    form: Callable[[Any], Form]
    """The order of operations of a layer's kernel."""
    trains: Callable[[Any, Any], bool]
    """Whether a layer called with this `training` normalises by batch statistics."""
    training: Callable[[Any, bool], Training]
    """How a layer trains, with a mask or without one."""
    layer: Callable[..., Any]
    """A new batch-norm layer from axis (a tuple), epsilon, momentum, scale, center and dtype."""
