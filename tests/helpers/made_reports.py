"""Reports of models and layers as `verify` makes them, for tests of what is done with reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bninspect.records import (
    Comparison,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Option,
    Report,
    Severity,
    Shard,
    outcome,
)


def comparison(ratio: float | None, observed: str = "in-model") -> Comparison:
    """Return a comparison of 100 values that are off by at most `ratio` bounds; None for values that are not finite."""
    wrong = 0 if ratio is not None and ratio <= 1 else 7
    return Comparison(observed, "formula", 100, wrong, ratio, 0.1, 1.0, 0 if ratio is not None else 7, None)


def finding(rule: str = "BN110", severity: Severity = Severity.ERROR, **evidence: Any) -> Finding:
    return Finding(rule, severity, f"what {rule} says", evidence)


def layer(name: str = "bn", ratio: float | None = 0.5, *findings: Finding, **more: Any) -> LayerReport:
    """Return a layer that is verified, or a mismatch with its finding, as the ratio says."""
    compared = comparison(ratio)
    if not compared.agrees:
        findings = (*findings, finding("BN301", observed="in-model", channels=[1]))
    status = LayerStatus.VERIFIED if compared.agrees else LayerStatus.MISMATCH
    known = {"status": status, "comparisons": (compared,), "findings": findings, **more}
    return LayerReport(name, "", 4, -1, 1e-3, "file", 0.9, "float32", True, True, **known)


def unverified(name: str = "bn") -> LayerReport:
    return layer(name, status=LayerStatus.UNVERIFIED, comparisons=(), reason="the runtime never ran it")


def model(path: str = "m.h5", *layers: LayerReport, sha256: str | None = None, fail_on: str = "error") -> ModelReport:
    layers = layers or (layer(),)
    status = outcome.model_status(layers, (), fail_on)
    return ModelReport(path, sha256 or f"digest of {path}", 100, "keras-h5", "Keras 3", status, layers=layers)


def report(*models: ModelReport, shard: Shard | None = None, command: str = "verify", **options: Any) -> Report:
    chosen = {name: Option(value, "default") for name, value in {"seed": 0, "allow_empty": False, **options}.items()}
    allowed = bool(chosen["allow_empty"].value)
    return outcome.report(command, models, options=chosen, allow_empty=allowed, running={}, shard=shard)


def paths(models: Sequence[ModelReport]) -> list[str]:
    return [one.path for one in models]
