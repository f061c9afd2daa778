"""What becomes of moving statistics in a training: how much of the initial ones is left, how far they still move.

Each step is `new = momentum * old + (1 - momentum) * batch`, so that after k updates the share of what was there at the
beginning is momentum**k (in Keras' sense: momentum is the share of the old value), and what is averaged are the last
1 / (1 - momentum) steps or so: the memory of the layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bninspect.records import Array
from bninspect.safe_text import printable

_NAMED = 3


@dataclass(frozen=True)
class Limits:
    """From when on a layer is warned of, at the end of a training."""

    left: float = 0.01
    """Largest part of a denominator that may come from the initial variance, or of a mean from the initial mean."""
    drift: float = 1.0
    """How far a statistic may move within the memory of its layer: as `State.drift`."""


@dataclass(frozen=True)
class State:
    """A layer at the end of an epoch."""

    updates: int
    """Training steps so far. A layer that is called several times in a step is updated more often."""
    share: float
    """momentum**updates: the share of the initial statistics that is left; 1 for a frozen layer."""
    left: float
    """The larger of `share` and the largest part of a variance + epsilon that is left of the initial variance.

    A channel whose true variance is small keeps much of the initial 1 even where the share is tiny.
    """
    drift: float
    """How far a statistic moved in this epoch, in a step times the steps of the layer's memory; over all channels.

    A mean in deviations, a variance in its logarithm. NaN if they are not finite.
    """
    finite: bool
    moved: bool
    """Whether any statistic changed in this epoch."""


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch norm as it stands. Arrays are float64 of the shape of the parameters."""

    mean: Array
    variance: Array
    epsilon: float
    momentum: float
    trained: bool
    """Whether training updates it."""


@dataclass
class _Known:
    """What is remembered of a layer."""

    initial: Norm
    before: Norm
    updates: int = 0

    @property
    def fresh(self) -> bool:
        """Whether it began as it was built. A trained layer that trains on may keep what it has."""
        return not self.initial.mean.any() and bool((self.initial.variance == 1).all())


@dataclass
class Watch:
    """Follows the batch norms of one model through its training, and says what to warn of, once for layer and cause."""

    limits: Limits
    states: dict[str, list[State]] = field(default_factory=dict)
    """What was seen of each layer at the end of each epoch, by its path in the model."""
    _known: dict[str, _Known] = field(default_factory=dict)
    _said: set[tuple[str, str]] = field(default_factory=set)

    def begin(self, norms: Mapping[str, Norm]) -> None:
        """Remember where the statistics start. A second training of the same model goes on from the first."""
        for name, norm in norms.items():
            self._known.setdefault(name, _Known(norm, norm))

    def epoch(self, norms: Mapping[str, Norm], steps: int) -> Iterator[str]:
        """Look at the layers after an epoch of so many steps; yield what to warn of."""
        for name, norm in norms.items():
            # A layer that was not there at the beginning was built in the first step.
            built = Norm(
                np.zeros_like(norm.mean), np.ones_like(norm.variance), norm.epsilon, norm.momentum, norm.trained
            )
            known = self._known.setdefault(name, _Known(built, built))
            known.updates += steps if norm.trained else 0
            self.states.setdefault(name, []).append(_state(known, norm, steps))
            known.before = norm
        last = {name: self.states[name][-1] for name in norms}
        broken = [name for name, state in last.items() if not state.finite]
        yield from self._once("finite", broken, "a moving statistic is NaN or infinite, and so is inference")
        still = [
            name for name, state in last.items() if state.finite and not state.moved and norms[name].trained and steps
        ]
        yield from self._once(
            "moved",
            still,
            f"the moving statistics did not move in {steps} training steps: is it called with training=False?",
        )

    def end(self) -> Iterator[str]:
        """Yield what to warn of at the end of the training."""
        last = {name: states[-1] for name, states in self.states.items()}
        trained = {name: state for name, state in last.items() if state.finite and self._known[name].updates}
        left = [
            name
            for name, state in trained.items()
            if self._known[name].fresh and state.moved and state.left > self.limits.left
        ]
        yield from self._once("left", left, self._leftover(left))
        moving = [name for name, state in trained.items() if name not in left and state.drift > self.limits.drift]
        most = max((last[name].drift for name in moving), default=0.0)
        yield from self._once(
            "drift",
            moving,
            f"the moving statistics are behind: within the steps that they average they move by {most:.2g} deviations: "
            "lower the momentum, or train on at a lower learning rate",
        )

    def _leftover(self, names: list[str]) -> str:
        if not names:
            return ""
        name = max(names, key=lambda one: self.states[one][-1].left)
        state, momentum = self.states[name][-1], self._known[name].before.momentum
        text = f"{state.share:.2g} of the initial statistics is left, {momentum:g}**{state.updates}"
        if not (math.isfinite(state.left) and 0 < momentum < 1):  # a variance + epsilon of 0, or no momentum at all
            return text
        enough = math.ceil(state.updates + math.log(self.limits.left / state.left) / math.log(momentum))
        if state.left > 2 * state.share:
            text += f", and with epsilon it makes {state.left:.1%} of a denominator"
        return f"{text}: train for {enough} steps in all, or lower the momentum"

    def _once(self, cause: str, names: Iterable[str], text: str) -> Iterator[str]:
        fresh = [name for name in names if (name, cause) not in self._said]
        self._said.update((name, cause) for name in fresh)
        if fresh:
            more = f" and {len(fresh) - _NAMED} more" if len(fresh) > _NAMED else ""
            yield f"{', '.join(printable(name) for name in fresh[:_NAMED])}{more}: {text}"


def _state(known: _Known, now: Norm, steps: int) -> State:
    before = known.before
    share = now.momentum**known.updates
    with np.errstate(all="ignore"):  # Statistics may be anything here: that is what is looked for.
        part = np.max(share * known.initial.variance / (now.variance + now.epsilon))
        scale = 1 / ((1 - now.momentum) * steps) if steps and now.momentum < 1 else 0.0
        means = np.abs(now.mean - before.mean) / np.sqrt(before.variance + before.epsilon)
        variances = np.abs(np.log((now.variance + now.epsilon) / (before.variance + before.epsilon)))
        drift = scale * float(max(np.max(means), np.max(variances)))
    return State(
        updates=known.updates,
        share=share,
        left=float(max(share, part)),
        drift=drift,
        finite=bool(np.isfinite(now.mean).all() and np.isfinite(now.variance).all()),
        moved=not (np.array_equal(now.mean, before.mean) and np.array_equal(now.variance, before.variance)),
    )
