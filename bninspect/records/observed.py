"""What a runtime did: Run, Observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bninspect.records.vocabulary import Array, Estimator, Evidence, Form


@dataclass(frozen=True, eq=False)
class Replay:
    """What a call that asked for training did to the moving statistics, and what is known of how it does that."""

    after: Mapping[str, Array]
    """`moving_mean` and `moving_variance` after the call; before it, they were those of `Observation.loaded`."""
    momentum: float
    """As the loaded layer has it."""
    estimator: Estimator
    """The variance that this kernel is known to average."""
    kept: str = "float32"
    """Type in which the moving statistics are kept: float16, bfloat16, float32 or float64."""
    decay: str = "float32"
    """Type to which the kernel rounds 1 - momentum."""
    one_pass: bool = False
    """Whether it computes the variance as E[x^2] - E[x]^2."""
    mask: Array | None = None
    """Which values count, of a shape that broadcasts against x; None if all do."""
    mask_ignored: bool = False
    """Whether it was called with a mask that this kernel does not honour."""
    trainable: bool = True
    """Whether the layer may be trained at all."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One batch-norm call as a runtime made it: what went in, with what, what came out. No verdict."""

    layer: str
    """Name of the stored layer (`BatchNorm.name`)."""
    observed: str
    """`in-model` or `probed`, of a training step `training` or `training-probed`; of code that nobody knows `given` or
    `returned`."""
    x: Array
    """Input as the kernel saw it, (any shape); float16/32/64. bfloat16 is widened to float32."""
    y: Array
    """Output, of the same shape as x."""
    axis: tuple[int, ...]
    """Axes of x that the parameters run along, normalised to 0 <= axis < x.ndim."""
    arithmetic: str = "float32"
    """Type in which the kernel computes: float32 or float64 (float16, bfloat16 where it really does)."""
    output: str = "float32"
    """Type to which the kernel rounds its result."""
    form: Form = Form.UNKNOWN
    epsilon: float | None = None
    """As the loaded layer has it."""
    loaded: Mapping[str, Array] = field(default_factory=dict)
    """Parameters as the runtime loaded them, by standard name; bfloat16 widened to float32."""
    training: bool = False
    """Whether the layer normalised by the statistics of its batch."""
    replay: Replay | None = None
    """Of a call that asked for training."""


@dataclass(frozen=True, eq=False)
class Arrival:
    """What arrives at a batch norm in one call, of a whole batch."""

    layer: str
    """Name of the stored layer (`BatchNorm.name`)."""
    x: Array
    """Input as the kernel sees it, (samples, ...); float16/32/64. bfloat16 is widened to float32."""
    axis: tuple[int, ...]
    """Axes of x that the parameters run along, normalised to 0 <= axis < x.ndim."""
    mask: Array | None = None
    """Which values count in training, of a shape that broadcasts against x; None if all do."""


@dataclass(frozen=True)
class DeclaredPrecision:
    """The type in which a model is computed as it is deployed, coarser than which nothing is."""

    dtype: str
    """float16, bfloat16, float32 or float64."""
    why: str = ""
    """Why it is another one than the file's, and what changes that; empty if it is the file's."""


@dataclass(frozen=True)
class Run:
    """How a runtime dealt with one model."""

    runtime: str
    """Name and version, for instance `tf-keras 2.21.0`."""
    evidence: Evidence
    reason: str = ""
    """Why the evidence is not `model`."""
    unobserved: Mapping[str, str] = field(default_factory=dict)
    """Layers without an observation in the model, and why."""
    unreplayed: Mapping[str, str] = field(default_factory=dict)
    """Layers whose training step was asked for and could not be replayed in the model, and why."""
    unlisted: tuple[str, ...] = ()
    """Batch-norm layers of the loaded model that are none of the stored ones: nothing vouches for them."""
    notes: tuple[str, ...] = ()
    """What the user should know: shapes chosen for unknown dimensions, a cleaned configuration ..."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    precision: DeclaredPrecision | None = None
    """In which the runtime computes by default, where that is less than the file has."""
