"""Does this data have the statistics that the model stored? The task of the framework's process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bninspect import runtimes
from bninspect.inspection import description, rules
from bninspect.records import (
    BatchNorm,
    Checkpoint,
    DataFit,
    DataReport,
    Evidence,
    LayerReport,
    LayerStatus,
    Statistics,
    Verified,
    codec,
    outcome,
)
from bninspect.runtimes.runtime import Stream
from bninspect.settings import MAX_EFFECT, TRAINED_BATCH, Settings
from bninspect.statistics import causes, data_findings, words
from bninspect.statistics.data import preparations, samples
from bninspect.statistics.data.open import opened
from bninspect.statistics.data.samples import Samples
from bninspect.statistics.fit import Trained
from bninspect.statistics.judgement import Question, held_against
from bninspect.statistics.measure import Measured, sound
from bninspect.verdicts import selection
from bninspect.verdicts.verify_task import run_settings

_STATUSES = {
    "fits": LayerStatus.VERIFIED,
    "differs": LayerStatus.MISMATCH,
    "unverified": LayerStatus.UNVERIFIED,
}


def drift(arguments: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None]) -> Verified:
    """Run the model of `arguments["checkpoint"]` over the data that the settings name."""
    checkpoint = codec.decode(Checkpoint, arguments["checkpoint"], arrays)
    settings = codec.decode(Settings, arguments["settings"])
    return drift_checkpoint(checkpoint, settings, progress)


def drift_checkpoint(
    checkpoint: Checkpoint, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Verified:
    """Run a model over data in inference mode, and hold what arrives at its batch norms against what is stored there.

    Raises:
        MissingPackage: no framework that could run it is installed, or Pillow for images.
        RuntimeFailure: the framework cannot load or run the model, or the data is not finite.
        UnreadableFile, UsageError: the data cannot be read, or does not fit the model.
    """
    wanted = [layer for layer in checkpoint.layers if selection.wanted(layer.name, settings)]
    if all(map(_untestable, wanted)):
        layers = tuple(description.describe(layer, (), LayerStatus.UNVERIFIED, _untestable(layer)) for layer in wanted)
        status = outcome.model_status(layers, (), settings.fail_on, checkpoint.unread)
        return Verified(replace(description.model(checkpoint), status=status, layers=layers), {})
    progress(f"{checkpoint.path}: loading the model")
    with runtimes.open_stream(checkpoint, run_settings(settings)) as stream:
        return drift_stream(checkpoint, stream, settings, progress)


def drift_stream(
    checkpoint: Checkpoint, stream: Stream, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Verified:
    """Run a loaded model over data. As `drift_checkpoint`."""
    settings = selection.for_model(settings, checkpoint.path)
    with opened(Path(settings.data or ""), stream.inputs, settings.image_size) as data:
        return _judged(checkpoint, stream, data, settings, progress)


def _judged(
    checkpoint: Checkpoint, stream: Stream, data: Samples, settings: Settings, progress: Callable[[str], None]
) -> Verified:
    chosen = samples.places(data.count, settings.limit, settings.seed if settings.shuffle else None)
    prepared = preparations.prepared(data, settings.prepare)
    size = samples.batch_size(stream, prepared, settings.batch_size, len(chosen))
    layers = [layer for layer in checkpoint.layers if selection.wanted(layer.name, settings)]
    candidates = [layer for layer in layers if not _untestable(layer)]

    def through(done: int) -> None:
        progress(f"{checkpoint.path}: {done:,} of {len(chosen):,} samples")

    trained = Trained(settings.trained_batch or TRAINED_BATCH, settings.trained_batch is None)
    question = Question(trained, MAX_EFFECT if settings.max_effect is None else settings.max_effect)
    fits, measured = held_against(
        stream, partial(samples.batches, prepared, chosen, size), candidates, question, began=through
    )
    first = next((name for name, fit in fits.items() if fit.verdict == "differs"), "")
    found = causes.Search((), None, 0)
    if first:
        progress(f"{checkpoint.path}: looking for the cause")
        found = causes.search(stream, prepared, chosen, size, candidates, fits, question)
    about = DataReport(
        title=data.title,
        samples=len(chosen),
        preparation=preparations.sentence(settings.prepare, data.notes),
        batch=size,
        trained_batch=trained.batch,
        trained_batch_assumed=trained.assumed,
        first=first,
        noise=stream.noise,
        changes=found.changes,
        nearest=found.nearest,
        tried=found.tried,
    )
    reports = tuple(_report(layer, fits, measured, stream, about, settings) for layer in layers)
    model = replace(
        description.model(checkpoint),
        status=outcome.model_status(reports, (), settings.fail_on, checkpoint.unread),
        runtime=stream.title,
        evidence=Evidence.MODEL,
        notes=(*checkpoint.notes, *stream.notes),
        layers=reports,
        data=about,
    )
    return Verified(model, stream.environment)


def _untestable(layer: BatchNorm) -> str:
    if layer.statistics is Statistics.FOLDED:
        return "only a scale and a shift are left of it: ask the model that this file was made from"
    if layer.statistics is not Statistics.MOVING:
        return f"it has no stored statistics: it normalises by those of each {layer.statistics}"
    return sound(layer)


def _report(
    layer: BatchNorm,
    fits: Mapping[str, DataFit],
    measured: Measured,
    stream: Stream,
    about: DataReport,
    settings: Settings,
) -> LayerReport:
    fit = fits.get(layer.name)
    if fit is None:
        reason = _untestable(layer) or measured.refused.get(layer.name) or stream.unobserved.get(layer.name)
        if reason is None and layer.name in measured.populations:
            reason = "what arrives at it is NaN or infinite"
        return description.describe(layer, (), LayerStatus.UNVERIFIED, reason or "the data does not reach it")
    found = rules.judged(data_findings.of_layer(fit, about), layer.name, settings)
    reason = words.too_little(fit) if fit.verdict == "unverified" else ""
    report = description.describe(layer, found, _STATUSES[fit.verdict], reason)
    return replace(report, fit=fit)
