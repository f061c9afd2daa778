"""What a runtime's observations say about the stored layers: comparisons, findings and a status for each layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from bninspect import causes
from bninspect.arithmetic import compare
from bninspect.arithmetic.bounds import precision
from bninspect.causes import remedies
from bninspect.inspection import rules
from bninspect.inspection.description import describe
from bninspect.records import (
    BatchNorm,
    Comparison,
    DeclaredPrecision,
    Evidence,
    Explanation,
    Finding,
    LayerReport,
    LayerStatus,
    Observation,
    Run,
    Statistics,
    in_words,
)
from bninspect.settings import Settings
from bninspect.verdicts import runtime_findings
from bninspect.verdicts.replay import Replayed
from bninspect.verdicts.selection import tolerance, wanted

_SAMPLES = 2
_EXPLAINED = 6
"""Layers of a model that the detective examines, the first ones: each may take a second or two."""


@dataclass
class _LayerEvidence:
    """What has been seen of one layer so far."""

    comparisons: dict[str, Comparison] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    training: bool = False
    samples: list[causes.Sample] = field(default_factory=list)
    """Of calls that do not agree, for the detective."""
    explanation: Explanation | None = None
    replayed: Replayed = field(default_factory=Replayed)
    """What calls that asked for training say."""


class Judge:
    """Compares every observation as it arrives, so that no activation is kept."""

    def __init__(self, layers: Iterable[BatchNorm], settings: Settings, writer: str = "") -> None:
        self._writer = writer
        self._settings = settings
        self._layers = {layer.name: layer for layer in layers if wanted(layer.name, settings)}
        self._tolerances = {name: tolerance(name, settings) for name in self._layers}
        self._seen = {name: _LayerEvidence() for name in self._layers}
        self.precision: DeclaredPrecision | None = None
        """The coarsest type in which a call in the model was computed; None before there was one."""

    def see(self, observation: Observation) -> None:
        """Compare one call of a layer with the formula; calls of layers that were not asked for are passed over."""
        layer = self._layers.get(observation.layer)
        if layer is None:
            return
        self._declare(observation)
        seen = self._seen[layer.name]
        chosen = self._tolerances[layer.name]
        allowed = (chosen.rtol, chosen.atol) if chosen else None
        for judge in (
            runtime_findings.loaded_differently,
            runtime_findings.configured_differently,
            runtime_findings.shaped_differently,
        ):
            if (finding := judge(layer, observation)) is not None:
                seen.findings.setdefault(finding.rule, finding)
        if observation.x.shape != observation.y.shape:
            return
        if observation.replay is not None:
            if not not_comparable(layer) and _same_shapes(layer, observation):
                seen.replayed.see(observation, observation.replay, layer, tolerance=allowed)
            return
        seen.training |= observation.training
        if observation.training or not_comparable(layer) or not _same_shapes(layer, observation):
            return
        comparison = compare.judge(observation, layer, tolerance=allowed)
        if not comparison.agrees and comparison.ratio is not None and len(seen.samples) < _SAMPLES:
            seen.samples.append(causes.sample(layer, observation))
        before = seen.comparisons.get(observation.observed)
        seen.comparisons[observation.observed] = compare.merge(before, comparison) if before else comparison

    def _declare(self, observation: Observation) -> None:
        known = [self.precision.dtype] if self.precision is not None else []
        if observation.observed == "in-model":
            coarsest = max((*known, observation.arithmetic, observation.output), key=lambda one: precision(one).unit)
            self.precision = DeclaredPrecision(coarsest)

    def reports(self, run: Run) -> tuple[LayerReport, ...]:
        """Return the verdict on every layer, in the model's order."""
        self._examine()
        stored = (self._report(layer, run) for layer in self._layers.values())
        return (*stored, *(_stranger(name) for name in run.unlisted if wanted(name, self._settings)))

    def _examine(self) -> None:
        """Have the detective look at the first layers whose outputs are not those of the formula."""
        wrong = [name for name, seen in self._seen.items() if seen.samples or seen.replayed.sample]
        for name in wrong[:_EXPLAINED]:
            layer, seen = self._layers[name], self._seen[name]
            if seen.samples:
                others = [other for other in self._layers.values() if other is not layer]
                seen.explanation = causes.explain(layer, seen.samples, others)
            elif seen.replayed.sample:
                batch, sample = seen.replayed.sample
                seen.explanation = causes.explain(batch, [sample], [replace(layer, name="its moving statistics")])

    def _report(self, layer: BatchNorm, run: Run) -> LayerReport:
        seen = self._seen[layer.name]
        replayed = seen.replayed
        hint = remedies.remedy(seen.explanation, layer.epsilon, remedies.RUNTIME) or None
        wrong = (
            runtime_findings.off(comparison, in_words(comparison.observed), hint=hint)
            for comparison in seen.comparisons.values()
            if not comparison.agrees
        )
        observed = (*rules.check(layer, self._writer), *seen.findings.values(), *wrong, *replayed.findings.values())
        found = rules.judged(observed, layer.name, self._settings)
        status, reason = _status(layer, seen, run, self._settings)
        comparisons = (*seen.comparisons.values(), *replayed.comparisons.values())
        report = describe(layer, found, status, reason, comparisons)
        notes = (*layer.notes, *replayed.notes)
        return replace(
            report,
            explanation=seen.explanation,
            estimator=replayed.estimator,
            tolerance=self._tolerances[layer.name],
            notes=notes,
        )


def _stranger(name: str) -> LayerReport:
    """Return the report of a batch norm that the runtime has and the reader has not: a gap that must be seen."""
    reason = "the runtime's model has this batch norm, and the reader did not find it in the file"
    return describe(BatchNorm(name), (), LayerStatus.UNVERIFIED, reason)


def not_comparable(layer: BatchNorm) -> str:
    """Return why the formula cannot be computed for a layer; empty if it can."""
    if layer.statistics is Statistics.FOLDED:
        return "" if layer.arrays else next(iter(layer.notes), "the file does not hold its scale and shift")
    if why := layer.statistics.elsewhere:
        return f"not verifiable: {why}, also at inference"
    if layer.moving_mean is None or layer.moving_variance is None:
        return "the file does not hold its moving_mean and moving_variance"
    if layer.undecided is not None:
        return "the file does not say whether one of its arrays is gamma or beta"
    if layer.epsilon is None:
        return "the file does not state epsilon: supply it with --epsilon [GLOB=]VALUE"
    return ""


def _status(layer: BatchNorm, seen: _LayerEvidence, run: Run, settings: Settings) -> tuple[LayerStatus, str]:
    accepted = Evidence.LAYER in settings.accept
    if why := not_comparable(layer):
        if layer.epsilon is None and run.evidence is Evidence.LAYER and not accepted:
            why += ", and --accept layer: there is no model to run it in"  # or it is asked for only the next time
        return LayerStatus.UNVERIFIED, why
    compared = (*seen.comparisons.values(), *seen.replayed.comparisons.values())
    if seen.findings or any(not comparison.agrees for comparison in compared):
        return LayerStatus.MISMATCH, ""
    if layer.wired:
        return LayerStatus.UNVERIFIED, _WIRED
    if seen.training:
        return (
            LayerStatus.UNVERIFIED,
            "the model calls it with training=True: it normalises by batch statistics",
        )
    if not seen.comparisons:
        return LayerStatus.UNVERIFIED, run.unobserved.get(layer.name) or run.reason or "the runtime never ran it"
    if run.evidence is not Evidence.MODEL and not accepted:
        return (
            LayerStatus.UNVERIFIED,
            f"{run.reason}; its layer alone agrees, --accept layer makes that enough",
        )
    if "in-model" not in seen.comparisons and not accepted:
        why = run.unobserved.get(layer.name) or "the forward pass did not reach it"
        return LayerStatus.UNVERIFIED, f"{why}; its layer alone agrees, --accept layer makes that enough"
    if settings.training and (doubt := seen.replayed.doubt(layer, run, accepted=accepted)):
        return LayerStatus.UNVERIFIED, doubt
    return LayerStatus.VERIFIED, ""


_WIRED = (
    "training=True is hard-wired: model(x) and exports normalise by the statistics of the batch, predict() by the "
    "moving ones, which is not the same model"
)


def _same_shapes(layer: BatchNorm, observation: Observation) -> bool:
    """Return whether the stored parameters can be applied to what the runtime's layer was given."""
    loaded = observation.loaded
    return all(array.shape == loaded[name].shape for name, array in layer.arrays.items() if name in loaded)
