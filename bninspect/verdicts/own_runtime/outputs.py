"""What a runtime of the user's returned for the test vectors of a model: compared and explained, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bninspect import causes
from bninspect.arithmetic import compare
from bninspect.arithmetic.bounds import EVERY_FORM
from bninspect.arithmetic.layout import aligned
from bninspect.causes import explanation as explaining
from bninspect.causes import remedies
from bninspect.errors import UsageError
from bninspect.formats.encodings import npy
from bninspect.inspection import description, rules
from bninspect.records import (
    Array,
    BatchNorm,
    Checkpoint,
    Comparison,
    Evidence,
    LayerReport,
    LayerStatus,
    ModelReport,
    Observation,
    Verified,
    codec,
    outcome,
)
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import layers as judging
from bninspect.verdicts import runtime_findings, selection
from bninspect.verdicts.own_runtime import vectors
from bninspect.verdicts.own_runtime.vectors import Vector

RETURNED = "returned"
_OTHERS = "write <layer>/x beside <layer>/y: that tells whether these are outputs for other vectors"
_PROBED = f"{vectors.PROBE} counts as a layer: a batch norm that the vectors add, on which no two hypotheses agree"
_UNPROBED = f"nothing was returned for {vectors.PROBE}: what this model's parameters cannot tell apart is not tested"


def judge(arguments: Mapping[str, Any], arrays: list[Any], _progress: Callable[[str], None]) -> Verified:
    """Judge the outputs in `arguments["outputs"]` for the vectors of `arguments["checkpoint"]`."""
    checkpoint = codec.decode(Checkpoint, arguments["checkpoint"], arrays)
    settings = codec.decode(Settings, arguments["settings"])
    return Verified(report(checkpoint, Path(arguments["outputs"]), settings), {})


def report(checkpoint: Checkpoint, path: Path, settings: Settings) -> ModelReport:
    """Compare what a runtime returned with the formula, for every layer of a model and for the probe.

    Args:
        checkpoint: of the model that the vectors were made from.
        path: a .npz file with `<layer>/y` for each layer.
        settings: what was asked for; the seed is that of the vectors.

    Raises:
        UsageError: the file holds outputs for other vectors, those that were expected, or none at all.
        UnreadableFile: it is not a NumPy file.
    """
    settings = selection.for_model(settings, checkpoint.path)
    arrays = npy.read(path)
    chosen = tuple(layer for layer in checkpoint.layers if selection.wanted(layer.name, settings))
    reasons = {layer.name: why for layer in chosen if (why := judging.not_comparable(layer))}
    testable = tuple(layer for layer in chosen if layer.name not in reasons)
    every = vectors.vectors(replace(checkpoint, layers=testable), settings.seed)
    known = {f"{vector.key}/y" for vector in every}
    if testable and not known & arrays.keys():
        raise UsageError(
            f"{path} holds no outputs for this model",
            why=f"it has {_listed(arrays)}, not {_listed(known)}",
            hint="write what your runtime returned as <layer>/y with numpy.savez: bninspect vectors says for what",
        )
    returned = f"{vectors.PROBE}/y" in arrays
    tried = every[: len(every) - (not returned)]
    reports = [_judged(vector, every, arrays, path, settings) for vector in tried]
    insisted = [selection.tolerance(vector.layer.name, settings) for vector in tried]
    judged = (replace(one, tolerance=by) for one, by in zip(reports, insisted, strict=True))
    layers = tuple(
        _untested(layer, reasons[layer.name], settings, checkpoint.writer) if layer.name in reasons else next(judged)
        for layer in chosen
    )
    layers += tuple(judged)  # the probe, the last of the vectors
    return replace(
        description.model(checkpoint),
        status=outcome.model_status(layers, (), settings.fail_on, checkpoint.unread),
        runtime=printable(path.name),
        evidence=Evidence.LAYER,
        notes=(*checkpoint.notes, _PROBED if returned else _UNPROBED),
        layers=layers,
    )


def _untested(layer: BatchNorm, reason: str, settings: Settings, writer: str) -> LayerReport:
    found = rules.judged(rules.check(layer, writer), layer.name, settings)
    return description.describe(layer, found, LayerStatus.UNVERIFIED, reason)


def _judged(
    vector: Vector, every: tuple[Vector, ...], arrays: Mapping[str, Array], path: Path, settings: Settings
) -> LayerReport:
    layer = vector.layer
    found = rules.judged(rules.check(layer), layer.name, settings) if vector.key != vectors.PROBE else ()
    returned = arrays.get(f"{vector.key}/y")
    if returned is None:
        reason = f"{printable(path.name)} holds no {printable(vector.key)}/y"
        return description.describe(layer, found, LayerStatus.UNVERIFIED, reason)
    given = arrays.get(f"{vector.key}/x")
    if given is not None and not np.array_equal(given, vector.x, equal_nan=True):
        raise UsageError(
            f"{printable(path.name)} holds outputs for other vectors",
            why=f"its {printable(vector.key)}/x is not that of this model with seed {settings.seed}",
            hint="make the vectors from this very model, and give the same --seed and --epsilon to both commands",
        )
    if returned.dtype.kind not in "fiu":
        raise UsageError(f"{printable(vector.key)}/y holds {returned.dtype}", why="only numbers can be compared")
    expected, _ = vectors.expected(vector)
    if f"{vector.key}/bound" in arrays and np.array_equal(returned, expected, equal_nan=True):
        raise UsageError(
            f"{printable(path.name)} holds the expected outputs themselves",
            why=f"its {printable(vector.key)}/y is what the vectors say, to the last bit of float64",
            hint="write what your runtime returns for <layer>/x as <layer>/y, to a file of its own",
        )
    y = aligned(returned, vector.x.shape, expected)
    if y is None:
        reason = f"its output has shape {returned.shape}, its input {vector.x.shape}"
        return description.describe(layer, found, LayerStatus.UNVERIFIED, reason)
    observation = explaining.observed(layer.name, vector.x, y, vector.axis, RETURNED)
    comparison = _compared(vector, observation, settings)
    if comparison.agrees:
        return description.describe(layer, found, LayerStatus.VERIFIED, "", (comparison,))
    others = [other.layer for other in every if other is not vector and other.layer.channels == layer.channels]
    explanation = causes.explain(layer, [causes.sample(layer, observation, forms=EVERY_FORM)], others)
    act = remedies.remedy(explanation, layer.epsilon, remedies.OWN_RUNTIME)
    hint = _OTHERS if given is None and not explanation.causes else act
    wrong = rules.judged(
        (runtime_findings.off(comparison, "returned", explanation.sentence, hint),), layer.name, settings
    )
    described = description.describe(layer, (*found, *wrong), LayerStatus.MISMATCH, "", (comparison,))
    return replace(described, explanation=explanation)


def _compared(vector: Vector, observation: Observation, settings: Settings) -> Comparison:
    insisted = selection.tolerance(vector.layer.name, settings)
    if insisted is not None:
        return compare.judge(observation, vector.layer, tolerance=(insisted.rtol, insisted.atol))
    return compare.judge_unknown(observation, vector.layer)


def _listed(names: Any) -> str:
    shown = [printable(name) for name in sorted(names)[:3]]
    return ", ".join(shown) + (" ..." if len(names) > 3 else "") if shown else "nothing"
