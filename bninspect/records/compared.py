"""What was found out: Comparison, Finding, Explanation, and Counterpart of a layer in an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bninspect.records.vocabulary import Evidence, LayerStatus, Severity, in_words


@dataclass(frozen=True)
class Worst:
    """The element that is the furthest from the formula in units of its bound, with the numbers of the arithmetic.

    In a training step `moving_mean` and `moving_variance` are those of the batch, and of an update `x` is the old
    value. Non-finite numbers are None.
    """

    index: tuple[int, ...]
    channel: int
    x: float | None
    expected: float | None
    actual: float | None
    bound: float | None
    gamma: float | None = None
    beta: float | None = None
    moving_mean: float | None = None
    moving_variance: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True)
class Channel:
    """A channel among those that are the furthest from the formula. Non-finite numbers are None."""

    channel: int
    ratio: float | None
    """Its largest |actual - expected| / bound; None when a violation is not finite."""
    gamma: float | None
    beta: float | None
    moving_mean: float | None
    moving_variance: float | None


@dataclass(frozen=True)
class Comparison:
    """What the formula and a runtime say about the same elements, in numbers only."""

    observed: str
    """How the runtime's values came about: `in-model` while the model ran, `probed` with the layer run alone,
    `training` and `training-probed` in a training step. Of an export what was compared: `weights`, `bias` ..."""
    reference: str
    """What they were held against: `formula`, in a training step `output`, `moving_mean` or `moving_variance`."""
    elements: int
    violations: int
    """Elements beyond their bound, and those where a finite number met a non-finite one or NaN met anything."""
    ratio: float | None
    """Largest |actual - expected| / bound; None when a violation is not finite."""
    max_abs: float | None
    max_ulp: float | None
    """Largest distance in units in the last place of the output type."""
    nonfinite: int
    """Elements where either side is not finite."""
    worst: Worst | None
    channels: tuple[int, ...] = ()
    """Channels with violations, the worst first; at most 16."""
    calls: int = 1
    """Calls of the layer that were joined into this comparison."""
    channel_ratios: tuple[float | None, ...] = ()
    """Largest ratio in each of at most 128 equal steps along the channels; None where a violation is not finite."""
    worst_channels: tuple[Channel, ...] = ()
    """The channels with the largest ratios, the worst first; at most 8."""

    @property
    def title(self) -> str:
        """How and what was compared, as no other comparison of its layer: `moving_mean in a training step`."""
        how = in_words(self.observed)
        return how.removeprefix("of ") if self.reference == "formula" else f"{self.reference} {how}"

    @property
    def agrees(self) -> bool:
        """True only if elements were compared, all of them finite and within the bound."""
        return self.elements > 0 and self.violations == 0 and self.ratio is not None and self.ratio <= 1.0


@dataclass(frozen=True)
class Tolerance:
    """What a user allows instead of the proven bound: |difference| <= atol + rtol * |expected|."""

    rtol: float
    atol: float
    reason: str = ""


@dataclass(frozen=True)
class Finding:
    """One judgement: what was found, how bad it is, the figures behind it, what to do."""

    rule: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    ignored: str | None = None
    """The reason for which the user's configuration ignores it; None = it counts."""


@dataclass(frozen=True)
class Cause:
    """One reading of the same parameters under which the whole difference vanishes."""

    name: str
    """Stable identifiers of the deviations, joined by ` + `: `epsilon-outside`, `gamma-ignored + epsilon=1e-05`."""
    sentence: str
    """What the kernel does, in plain words."""
    ratio: float
    """Largest |actual - predicted| in units of the rounding bound of this reading; at most 1."""
    explains: float = 1.0
    """Share of the values that were looked at and that the formula does not explain."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of the reading: `epsilon`, `factor` with the interval `low` to `high` it may lie in ..."""
    ties: tuple[str, ...] = ()
    """Names of the other causes that fit as well."""
    separated_by: str = ""
    """What further observation would tell it from the first of them."""


@dataclass(frozen=True)
class Explanation:
    """The answer on one layer."""

    matches: bool
    """Whether the formula itself explains everything: there is nothing to explain."""
    causes: tuple[Cause, ...]
    """All that fit, the simplest and most common first. Empty if none does."""
    tried: int
    """Number of hypotheses that were tried."""
    elements: int
    """Number of values that were looked at."""
    remarks: tuple[str, ...] = ()
    """What can be said of the difference otherwise: whether it is affine, where it is, what comes nearest."""
    decided: bool = True
    """False where the numbers cannot tell: so little is known of them that a wrong formula may fit by chance."""

    @property
    def sentence(self) -> str:
        """The answer in one line."""
        if self.matches:
            return "the formula explains every value"
        if not self.causes:
            return f"none of {self.tried} hypotheses fits"
        first, *others = self.causes
        if not others:
            return first.sentence
        epsilons = [cause.details.get("epsilon") for cause in others]
        if all(cause.name.startswith("epsilon=") for cause in self.causes) and None not in epsilons:
            # Values that are too near to be told apart: 1e-05 and the 1.001e-05 of Keras' ResNets.
            word, _, rest = first.sentence.partition(" instead of ")
            return f"{word} (or {', '.join(f'{epsilon:g}' for epsilon in epsilons)})" + (
                f" instead of {rest}" if rest else ""
            )
        rest = "1 other" if len(others) == 1 else f"{len(others)} others"
        return f"{first.sentence}, or {rest} that cannot be told apart here"


@dataclass(frozen=True)
class Counterpart:
    """What became of a layer in an export of its model."""

    status: LayerStatus
    own: LayerStatus | None
    """The layer's status in its own runtime, whatever the export holds."""
    how: str
    """`folded`, `folded forward`, `scale and shift` or `batch norm`; empty if no place was found."""
    place: str = ""
    """What the export's operation is, and its name: `convolution 'operator 3'`."""
    sentence: str = ""
    """What is wrong, in plain words; empty if nothing is."""
    inherited: str = ""
    """The earlier layer whose defect makes this one's output differ, though its own numbers are right."""
    comparisons: tuple[Comparison, ...] = ()
    """Of `weights` and `bias` with what they should be, and of the `output` with that of the source."""
    explanation: Explanation | None = None
    """What converters do that would explain the numbers; None if they are right."""
    momentum: float | None = None
    """The momentum that the export states for it, where it survives as a batch norm with another one."""


@dataclass(frozen=True)
class Export:
    """The file that a model was held against."""

    path: str
    sha256: str | None
    bytes: int
    format: str
    writer: str
    runtime: str | None
    """Name and version of the runtime that ran it; None if none did."""
    same: bool
    """Whether it is an export of this model at all."""
    outputs: tuple[Comparison, ...] = ()
    """Of the outputs of the two models, also with the runtime's default optimisation."""
    notes: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    """What could not be compared, and closes the gate."""
    condition: str = ""
    """What a verdict of yes depends on that neither file says: on the data, of a quantised export; empty if nothing."""
    evidence: Evidence = Evidence.MODEL
    """`model` where each operation was recomputed on the export's own input, `numbers` where only numbers were held."""
