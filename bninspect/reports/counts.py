"""What counts against a model, for formats that say it of each check. The verdict itself is in the report already."""

from __future__ import annotations

from bninspect.records import Comparison, Finding, LayerReport, LayerStatus, ModelReport, Report, Status, outcome
from bninspect.reports import equivalence_words

OUTPUTS = ("formula", "output")
"""References of comparisons of outputs; the others are of the moving statistics that a training step stores."""


def fail_on(report: Report) -> str:
    """Return `--fail-on` as the report's options state it; the default where they do not."""
    option = report.options.get("fail_on")
    return str(option.value) if option else "error"


def mismatch_counts(layer: LayerReport, model: ModelReport, threshold: str) -> bool:
    """Return whether a layer is a mismatch that counts against its model."""
    counted = threshold != "never" and model.status is not Status.PASS and not layer.known
    return counted and layer.status is LayerStatus.MISMATCH


def unverified_counts(layer: LayerReport) -> bool:
    """Return whether a layer is unverified, and was not already in the baseline."""
    return layer.status is LayerStatus.UNVERIFIED and not layer.known


def finding_counts(finding: Finding, model: ModelReport, threshold: str) -> bool:
    """Return whether a finding counts against a model."""
    return model.status is not Status.PASS and outcome.fails(finding, threshold)


def layer_counts(layer: LayerReport, model: ModelReport, threshold: str) -> bool:
    """Return whether anything about a layer counts against its model."""
    if unverified_counts(layer) or mismatch_counts(layer, model, threshold):
        return True
    return any(finding_counts(finding, model, threshold) for finding in layer.findings)


def worst_comparison(layer: LayerReport) -> Comparison | None:
    """Return the comparison of a layer that is the furthest off; one that is not finite comes first."""
    return max(layer.comparisons, key=distance, default=None)


def furthest(layer: LayerReport) -> Comparison | None:
    """Return the comparison of a layer that is the furthest off, in its own runtime or in the export."""
    return max((*layer.comparisons, *layer.exported), key=distance, default=None)


def worst_of(model: ModelReport) -> Comparison | None:
    """Return the comparison of a model that is the furthest off, in its own runtime or in its export."""
    compared = [comparison for layer in model.layers for comparison in (*layer.comparisons, *layer.exported)]
    compared += model.against.outputs if model.against else ()
    return max(compared, key=distance, default=None)


def worst_output(layer: LayerReport) -> Comparison | None:
    """Return the comparison of outputs that is the furthest off: its worst element has the formula's arithmetic."""
    return max(
        (comparison for comparison in layer.comparisons if comparison.reference in OUTPUTS), key=distance, default=None
    )


def distance(comparison: Comparison) -> float:
    """Return how far a comparison is from the formula, in units of the bound; infinite if that is not a number."""
    if comparison.ratio is not None:
        return comparison.ratio
    return float("inf") if comparison.violations else -1.0


def distance_of(layer: LayerReport) -> float:
    """Return how far a layer is from the formula: the largest `distance` of its comparisons."""
    return max(map(distance, layer.comparisons), default=-1.0)


def about(comparison: Comparison, layer: LayerReport) -> list[Finding]:
    """Return the findings that were made of a comparison: what they say, `measured` says too, but not their hints."""
    array = None if comparison.reference in OUTPUTS else comparison.reference
    return [
        finding
        for finding in layer.findings
        if finding.evidence.get("observed") == comparison.observed and finding.evidence.get("array") == array
    ]


def loaded_differently(layer: LayerReport, model: ModelReport, threshold: str) -> bool:
    """Return whether a layer is a mismatch in its own runtime that counts; what does not lie in its outputs."""
    return mismatch_counts(equivalence_words.layer_alone(layer), model, threshold)


def reasons(layer: LayerReport, model: ModelReport, threshold: str) -> tuple[Comparison | None, list[Finding]]:
    """Return what counts against a layer: the outputs that are the furthest off, and findings that say more."""
    worst = worst_output(layer) if mismatch_counts(layer, model, threshold) else None
    comparison = None if worst is None or worst.agrees else worst
    findings = [finding for finding in layer.findings if finding_counts(finding, model, threshold)]
    if model.against is not None and not model.against.same:  # said once, of the model
        findings = [one for one in findings if not equivalence_words.about_export(one)]
    if comparison:
        findings = [one for one in findings if "observed" not in one.evidence or "array" in one.evidence]
    return comparison, findings
