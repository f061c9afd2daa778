"""What `explain` answers. Plain records, for the screen and for JSON."""

from __future__ import annotations

from dataclasses import dataclass

from bninspect.records import Cause, Comparison, Explanation


@dataclass(frozen=True)
class Stored:
    """The moving statistics after one step, by the convention of one framework."""

    framework: str
    momentum: float | None
    written: str
    epsilon: float | None
    """The framework's default."""
    estimator: str
    factor: float | None
    """What the biased variance is multiplied by before it is averaged; None if that is not known."""
    mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()
    single: str = ""
    """What becomes of a batch with one value per channel; empty unless this is one."""


@dataclass(frozen=True)
class TrainingStep:
    """A batch, and what is made of it. Lists hold the channels that are shown."""

    shape: tuple[int, ...]
    axis: tuple[int, ...]
    over: tuple[int, ...]
    """Axes that the moments are taken over."""
    n: int
    """Values per channel."""
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    biased: tuple[float, ...]
    """Variance divided by n: what every framework normalises with."""
    unbiased: tuple[float, ...]
    """Variance divided by n - 1."""
    moving_mean: tuple[float, ...]
    """Before the step."""
    moving_variance: tuple[float, ...]
    stored: tuple[Stored, ...]


@dataclass(frozen=True)
class ChannelArithmetic:
    """The formula for one x, with every number in it. Numbers that are not finite become null in JSON."""

    channel: int
    x: float
    gamma: float
    beta: float
    mean: float
    variance: float
    epsilon: float
    root: float
    """sqrt(variance + epsilon)."""
    normalised: float
    """(x - mean) / root."""
    expected: float
    given: float | None = None
    """The output to explain; None if there is none."""
    bound: float | None = None
    """By how much rounding lets a float32 kernel differ, and the digits that were typed."""

    @property
    def ratio(self) -> float | None:
        """|given - expected| in bounds."""
        if self.given is None or self.bound is None or not self.bound > 0:
            return None
        return abs(self.given - self.expected) / self.bound


@dataclass(frozen=True)
class FoldedChannel:
    """What one channel does to x: scale * x + shift."""

    channel: int
    gamma: float
    beta: float
    mean: float
    variance: float
    root: float
    scale: float
    shift: float


@dataclass(frozen=True)
class Explained:
    """What is known of one layer, and of outputs that were given for it."""

    name: str
    channels: int
    epsilon: float | None
    arithmetic: tuple[ChannelArithmetic, ...] = ()
    folded: tuple[FoldedChannel, ...] = ()
    comparison: Comparison | None = None
    """Of all outputs with the formula, where arrays were given."""
    explanation: Explanation | None = None
    """None where no outputs were given."""
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether nothing was given to compare, all that was given agrees, or the unknown epsilon alone was found."""
        if self.comparison is not None and not self.comparison.agrees:
            return False
        if self.explanation is None or self.explanation.matches:
            return True
        return self.epsilon is None and self.explanation.decided and any(map(_epsilon_alone, self.explanation.causes))

    @property
    def open(self) -> bool:
        """Whether the outputs neither agree nor contradict: with an epsilon that the file does not state, they may."""
        return self.epsilon is None and self.explanation is not None and not self.explanation.decided


def _epsilon_alone(cause: Cause) -> bool:
    """Return whether a cause is the formula itself, with an epsilon inside the square root, which is never negative."""
    alone = cause.name.startswith("epsilon=") and " + " not in cause.name
    return alone and cause.details["epsilon"] >= 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of `explain`: layers, or a training step."""

    schema_version: str = "1.0"
    command: str = "explain"
    exit_code: int
    """0 where all that was given agrees with the formula, 1 where not, 3 where that cannot be told."""
    layers: tuple[Explained, ...]
    step: TrainingStep | None


def answer(layers: tuple[Explained, ...], step: TrainingStep | None = None) -> Answer:
    """Return the result of the command."""
    code = 3 if any(layer.open for layer in layers) else 0 if all(layer.agrees for layer in layers) else 1
    return Answer(exit_code=code, layers=layers, step=step)
