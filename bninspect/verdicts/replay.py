"""The verdict on replayed training steps: outputs by the moments of their batch, and both moving updates.

A layer that trains must normalise with the mean and the biased variance of its batch, and move its statistics by its
momentum. One that does not (`trainable=False`, or called with `training=False`) must compute what it computes at
inference, and leave its statistics alone. How far a correct kernel may be off: moments.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bninspect import causes
from bninspect.arithmetic import compare
from bninspect.arithmetic.bounds import Allowance
from bninspect.arithmetic.formula import Parameters
from bninspect.arithmetic.moments import Moments, output_allowances
from bninspect.records import BatchNorm, Comparison, Estimator, Finding, Observation, Replay, Run
from bninspect.verdicts import runtime_findings
from bninspect.verdicts.moving_updates import KEPT, STATISTICS, Updates, unmoved

OUTPUT = "output"
IN_MODEL, PROBED = "training", "training-probed"


@dataclass
class Replayed:
    """What the replayed calls of one layer say together."""

    comparisons: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    """By how they were observed, and what was compared."""
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    """By rule and what was compared."""
    estimators: frozenset[Estimator] = frozenset(Estimator)
    """Those that explain the moving variance in every call."""
    trained: bool = False
    """Whether any call normalised by its batch."""
    count: int = 0
    """Smallest number of values per channel, above one, that a batch had; 0 if none had several."""
    sample: tuple[BatchNorm, causes.Sample] | None = None
    """Of an output that does not agree, for the detective: a layer that has the batch's statistics as its own."""
    refused: str = ""
    """Why calls that were seen could not be recomputed."""
    sayings: dict[str, None] = field(default_factory=dict)
    """What users should know of how the layer trains, each once."""

    def see(
        self,
        observation: Observation,
        replay: Replay,
        layer: BatchNorm,
        *,
        tolerance: tuple[float, float] | None = None,
    ) -> None:
        """Recompute one call that asked for training.

        Args:
            observation: the call.
            replay: what it did to the moving statistics.
            layer: the stored layer.
            tolerance: (rtol, atol) to use instead of the derived bounds.

        Raises:
            BninspectError: x, y and the parameters do not belong together, or the parameters are incomplete.
        """
        if layer.momentum is None:
            self.refused = "the file does not state its momentum: a training step cannot be recomputed"
        elif observation.training:
            self._see_trained(observation, replay, layer, tolerance)
        else:
            self._see_untrained(observation, replay, layer, tolerance)

    @property
    def estimator(self) -> Estimator | None:
        """The only variance that explains what was stored; None if no batch told."""
        return next(iter(self.estimators)) if self.count and len(self.estimators) == 1 else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know of how the layer trains."""
        if self.estimator is None:
            untold = ("no batch told which variance its moving_variance keeps",) if self.trained else ()
            return (*self.sayings, *untold)
        return (*self.sayings, f"moving_variance keeps {KEPT[self.estimator]} with n = {self.count}")

    def doubt(self, layer: BatchNorm, run: Run, *, accepted: bool) -> str:
        """Return why the training step of a layer is not verified, although nothing disagrees; empty if it is.

        Args:
            layer: the stored layer.
            run: how the runtime dealt with its model.
            accepted: whether it is enough that the layer alone agrees.
        """
        if (IN_MODEL, OUTPUT) in self.comparisons:
            return ""
        why = self.refused or run.unreplayed.get(layer.name)
        why = why or f"{run.runtime} has no training step to replay: verify the Keras model that the file was made from"
        if (PROBED, OUTPUT) not in self.comparisons:
            return why
        return "" if accepted else f"{why}; its layer alone trains as it should, --accept layer makes that enough"

    def _see_trained(
        self, observation: Observation, replay: Replay, layer: BatchNorm, tolerance: tuple[float, float] | None
    ) -> None:
        self.trained = True
        x, axis, arithmetic = observation.x, observation.axis, observation.arithmetic
        stored = Parameters.of(layer, arithmetic)
        moments = Moments.of(x, axis, mask=replay.mask, one_pass=replay.one_pass, arithmetic=arithmetic)
        used = moments.parameters(stored)
        if tolerance is None:
            allowed = output_allowances(moments, stored, observation.form, arithmetic, observation.output)
        else:
            allowed = (Allowance.fixed(used, rtol=tolerance[0], atol=tolerance[1]),)
        output = compare.with_parameters(observation, used, allowed, OUTPUT)
        self._add_output(output, "the mean and the biased variance of its batch")
        if not output.agrees and output.ratio is not None and self.sample is None:
            self.sample = _sampled(observation, layer, moments)

        updates = Updates(observation, replay, layer, moments, tolerance)
        for name in STATISTICS:
            comparison = updates.compared(name)
            self._add(comparison, None if comparison.agrees else updates.finding(comparison))
        count = int(moments.count.min())
        if count > 1:
            self.estimators &= {kind for kind in Estimator if updates.compared("moving_variance", kind).agrees}
            self.count = min(count, self.count or count)
        if replay.mask is not None:
            self.sayings["masked values do not count in its moments"] = None
        if replay.mask_ignored:
            self.sayings["its fused kernel ignores the mask: masked values count in its moments"] = None

    def _see_untrained(
        self, observation: Observation, replay: Replay, layer: BatchNorm, tolerance: tuple[float, float] | None
    ) -> None:
        output = replace(compare.judge(observation, layer, tolerance=tolerance), reference=OUTPUT)
        self._add_output(output, "its moving statistics")
        said = _UNTRAINED[replay.trainable]
        self.sayings[said] = None
        for name in STATISTICS:
            comparison = unmoved(observation, replay, layer, name)
            self._add(comparison, None if comparison.agrees else runtime_findings.moved(comparison, said))

    def _add_output(self, output: Comparison, means: str) -> None:
        self._add(output, None if output.agrees else runtime_findings.normalised_differently(output, means))

    def _add(self, comparison: Comparison, finding: Finding | None) -> None:
        key = (comparison.observed, comparison.reference)
        before = self.comparisons.get(key)
        self.comparisons[key] = compare.merge(before, comparison) if before else comparison
        if finding is not None:
            self.findings.setdefault((finding.rule, comparison.reference), finding)


_UNTRAINED = {
    False: "trainable=False: a training step uses its moving statistics and leaves them as they are",
    True: "the model calls it with training=False: a training step uses its moving statistics and leaves them as "
    "they are",
}
"""By whether the layer is trainable."""


def _sampled(observation: Observation, layer: BatchNorm, moments: Moments) -> tuple[BatchNorm, causes.Sample]:
    """Return a layer that has the statistics of the batch, and a sample of the call, for the detective."""
    batch = replace(layer, moving_mean=moments.mean, moving_variance=moments.variance)
    sample = causes.sample(batch, replace(observation, loaded={}))
    slack = {"mean": moments.mean_error.ravel(), "variance": moments.variance_error.ravel()}
    return batch, replace(sample, half_digits=slack)
