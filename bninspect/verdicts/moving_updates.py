"""The moving updates of one training step, held against the one that is right, and against those that are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bninspect.arithmetic import compare
from bninspect.arithmetic.formula import Float64, Parameters
from bninspect.arithmetic.moments import Moments, updated
from bninspect.arithmetic.rounding import widened
from bninspect.records import Array, BatchNorm, Comparison, Estimator, Finding, Observation, Replay
from bninspect.verdicts import runtime_findings

STATISTICS = ("moving_mean", "moving_variance")

KEPT = {
    Estimator.BIASED: "the biased variance, divided by n",
    Estimator.UNBIASED: "the unbiased variance, n/(n-1)",
    Estimator.OVERCORRECTED: "the variance times n/(n-(1+epsilon))",
}
"""What each estimator stores, in words."""

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Updates:
    """What a call that trained stored, and ways in which it may have come to that."""

    observation: Observation
    replay: Replay
    layer: BatchNorm
    """As stored, complete and with a momentum."""
    moments: Moments
    """Of the batch."""
    tolerance: tuple[float, float] | None = None
    """(rtol, atol) instead of the derived bound."""

    @property
    def momentum(self) -> float:
        """Share of the old value, as the file states it."""
        return self.replay.momentum if self.layer.momentum is None else self.layer.momentum

    def compared(self, name: str, estimator: Estimator | None = None, momentum: float | None = None) -> Comparison:
        """Compare `moving_mean` or `moving_variance` with what an estimator and a momentum make of it.

        Without them, it is the estimator that the kernel is known for, and the layer's own momentum.
        """
        batch, error = self._of_batch(name, self.replay.estimator if estimator is None else estimator)
        expected, bound = updated(
            self.observation.loaded[name],
            batch,
            error,
            self.momentum if momentum is None else momentum,
            arithmetic=self.observation.arithmetic,
            kept=self.replay.kept,
            decay=self.replay.decay,
        )
        if self.tolerance is not None:
            rtol, atol = self.tolerance
            bound = np.maximum(atol + rtol * np.abs(expected), _TINY)
        parameters = self.moments.parameters(Parameters.of(self.layer, self.observation.arithmetic))
        if name == "moving_variance":
            parameters = replace(parameters, variance=batch)
        return _compared(self.observation, self.replay, name, parameters, (expected, bound))

    def finding(self, comparison: Comparison) -> Finding:
        """Return what the step stored, what it should have stored, and every known mistake that explains it."""
        cause = " or ".join(self._causes(comparison.reference)) or "nothing that is known here explains it"
        return runtime_findings.updated_differently(comparison, self.momentum, cause)

    def _of_batch(self, name: str, estimator: Estimator) -> tuple[Float64, Float64]:
        if name == "moving_mean":
            return self.moments.mean, self.moments.mean_error
        return self.moments.kept(estimator, self.layer.epsilon or 0.0)

    def _causes(self, name: str) -> Iterator[str]:
        """Yield every known mistake that explains all channels."""
        if self.replay.mask is not None and self._unmasked().compared(name).agrees:
            yield "masked values count in its moments"
        for other in Estimator if name == "moving_variance" else ():
            if other is not self.replay.estimator and self.compared(name, other).agrees:
                yield f"it keeps {KEPT[other]}, instead of {KEPT[self.replay.estimator]}"
        swapped = 1.0 - self.momentum
        mistakes = {
            swapped: f"momentum and 1 - momentum are swapped, {swapped:g} of the old value is kept",
            1.0: "it is not updated",
            self.momentum**2: "it is updated twice",
            0.0: "it is replaced by that of the batch",
        }
        fitting = [said for momentum, said in mistakes.items() if self.compared(name, momentum=momentum).agrees]
        yield from fitting
        fitted = None if fitting else self._fitted(name)
        if fitted is not None:
            yield f"the momentum is {fitted:.6g} instead of {self.momentum:g}"

    def _unmasked(self) -> Updates:
        seen = self.observation
        moments = Moments.of(seen.x, seen.axis, one_pass=self.replay.one_pass, arithmetic=seen.arithmetic)
        return replace(self, moments=moments)

    def _fitted(self, name: str) -> float | None:
        """Return the momentum that explains the update of all channels; None if there is none."""
        batch, _ = self._of_batch(name, self.replay.estimator)
        old, new = (widened(each[name]) for each in (self.observation.loaded, self.replay.after))
        with np.errstate(all="ignore"):
            # A channel tells the more, the larger old - batch is in units of the last digit of what is added up.
            share = (new - batch) / (old - batch)
            weight = np.square((old - batch) / np.maximum(np.abs(old), np.abs(batch)))
        known = np.isfinite(weight) & np.isfinite(share) & (weight > 0)
        if not known.any():
            return None
        momentum = float(np.average(share[known], weights=weight[known]))
        return momentum if self.compared(name, momentum=momentum).agrees else None


def unmoved(observation: Observation, replay: Replay, layer: BatchNorm, name: str) -> Comparison:
    """Compare `moving_mean` or `moving_variance` after a call that must not train: not one bit may have changed."""
    before = widened(observation.loaded[name])
    parameters = Parameters.of(layer, observation.arithmetic)
    return _compared(observation, replay, name, parameters, (before, np.full(before.shape, _TINY)))


def _compared(
    observation: Observation, replay: Replay, name: str, parameters: Parameters, expected: tuple[Float64, Float64]
) -> Comparison:
    """Compare a moving statistic after the step with (number, bound); the worst element shows the old one as x."""
    numbers, bound = expected
    old: Array = observation.loaded[name]
    return compare.compare(
        numbers,
        replay.after[name],
        bound,
        x=old,
        parameters=parameters,
        axis=observation.axis if old.ndim > 1 else (0,),
        output=replay.kept,
        observed=observation.observed,
        reference=name,
    )
