"""What data says of the stored statistics of a model: DataFit of a layer, DataReport of the whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Departure:
    """How far one stored statistic of a layer is from that of the data, over its channels. None: not finite."""

    z: float | None
    """In standard errors, in the channel where that is largest."""
    z_median: float | None
    effect: float | None
    """In the channel where it is largest: of a mean in stored deviations, of a variance by its logarithm."""
    effect_median: float | None
    channel: int
    """The channel with the largest effect."""
    stored: float | None
    """The stored statistic of that channel."""
    measured: float | None
    """That of the data."""
    beyond: int
    """Channels that are off by more standard errors and by a larger effect than is allowed."""
    quantiles: tuple[float | None, ...] = ()
    """Smallest, quarter, half, three quarters and largest, over the channels, of the signed effect."""
    effects: tuple[float | None, ...] = ()
    """Largest effect in each of at most 128 equal steps along the channels."""


@dataclass(frozen=True)
class DataFit:
    """Whether the stored statistics of a layer are those of the data."""

    verdict: str
    """`fits`, `differs` or `unverified`."""
    samples: int
    values: int
    """Values of each channel."""
    mean: Departure
    variance: Departure
    critical: float
    """Standard errors beyond which a difference is not chance, all channels of the model considered."""
    tolerance: float
    """Effect up to which a difference does not count."""
    resolution: float | None
    """The smallest shift of a mean, in stored deviations, that this data shows in the median channel."""
    needed: int = 0
    """Samples that would be enough, where these are too few."""
    momentum: float = 0.0
    """Share of the old value in a training step: of the file, or assumed."""
    momentum_assumed: bool = False
    flips: bool = False
    """Whether the standard errors depend on the batch size of the training in a way that would change the verdict."""
    small: bool = False
    """Whether it is off by more than chance explains, but by less than the tolerance."""
    noisy: bool = False
    """Whether it fits only with the dropout and the augmentation that the model has in training."""
    inherited: str = ""
    """The earlier layer that differs, after which this one does too."""


@dataclass(frozen=True)
class InputChange:
    """A change of the input under which the statistics become those of the file."""

    name: str
    """A stable identifier: `scale 0..255 to 0..1`, `channels-reversed + scale 0..255 to 0..1`."""
    sentence: str
    """What the data is and what the model was trained on, in plain words."""
    effect: float
    """Largest remaining effect at the layers that it explains."""
    explains: tuple[str, ...]
    """Layers that differ without it and fit with it."""
    unexplained: tuple[str, ...] = ()
    """Layers that differ all the same."""


@dataclass(frozen=True)
class DataReport:
    """The data that a model was run on, and what it says of the model."""

    title: str
    samples: int
    preparation: str
    """What was done to the data before it was given to the model; empty if nothing was."""
    batch: int
    """Samples in a forward pass."""
    trained_batch: int
    """Batch size of the training, given or assumed."""
    trained_batch_assumed: bool
    first: str = ""
    """The first layer that differs; empty if none does."""
    noise: tuple[str, ...] = ()
    """Layers of the model that do something in training alone: dropout, augmentation."""
    changes: tuple[InputChange, ...] = ()
    """Changes of the input that explain it, the best first; those that cannot be told apart from it follow."""
    nearest: InputChange | None = None
    """Where none explains it, the change that takes most of the difference away, if one takes much: not proved."""
    tried: int = 0
    """Changes that were tried."""
