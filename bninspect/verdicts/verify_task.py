"""The task of the framework's process: one Checkpoint and its file to the verdict on every layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from bninspect import runtimes
from bninspect.errors import MissingPackage, UsageError
from bninspect.inspection import description
from bninspect.records import Checkpoint, Run, Verified, codec, verdict
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import selection
from bninspect.verdicts.layers import Judge

RunModel: TypeAlias = Callable[[Checkpoint, runtimes.RunSettings, runtimes.Begin], Run]


def prepare() -> None:
    """Import the framework while the file is still being read: it takes seconds."""
    with contextlib.suppress(MissingPackage):  # which is said when a model is to be run
        runtimes.prepare()


def verify(arguments: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None]) -> Verified:
    """Run the model of `arguments["checkpoint"]` and compare every batch-norm call with the formula."""
    checkpoint = codec.decode(Checkpoint, arguments["checkpoint"], arrays)
    settings = codec.decode(Settings, arguments["settings"])
    return verify_checkpoint(checkpoint, settings, progress)


def verify_checkpoint(
    checkpoint: Checkpoint,
    settings: Settings,
    progress: Callable[[str], None] = lambda _: None,
    run: RunModel = runtimes.run,
) -> Verified:
    """Run a model in a framework and compare every batch-norm call with the formula, as it happens.

    Args:
        checkpoint: what is known of the model.
        settings: what was asked for.
        progress: told what is going on.
        run: runs the model that the checkpoint describes; in the first framework that loads its file, by default.

    Raises:
        MissingPackage: no framework that could run it is installed.
        RuntimeFailure: the framework failed in a way that says nothing about the layers.
        UsageError: the given input, signature or tag does not fit the model.
    """
    if (settings.signature or settings.tag) and checkpoint.format != "saved-model":
        why = f"{printable(checkpoint.path)} is {checkpoint.format}"
        raise UsageError("--signature and --tag are for SavedModels", why=why)
    settings = selection.for_model(settings, checkpoint.path)
    judge = Judge(checkpoint.layers, settings)

    def begin() -> runtimes.Sink:
        # A runtime that failed half-way must leave nothing behind: the next attempt is judged afresh.
        nonlocal judge
        judge = Judge(checkpoint.layers, settings)
        return judge.see

    progress(f"{checkpoint.path}: running the model")
    how = run(checkpoint, run_settings(settings), begin)
    layers = judge.reports(how)
    model = replace(
        description.model(checkpoint),
        status=verdict.model_status(layers, (), settings.fail_on),
        runtime=how.runtime,
        evidence=how.evidence,
        notes=(*checkpoint.notes, *how.notes),
        layers=layers,
    )
    return Verified(model, how.environment)


def run_settings(settings: Settings) -> runtimes.RunSettings:
    """Return what a runtime is told of the settings."""
    return runtimes.RunSettings(
        runtime=settings.runtime,
        seed=settings.seed,
        input_path=Path(settings.input) if settings.input else None,
        input_shapes=settings.input_shapes,
        signature=settings.signature,
        tag=settings.tag,
        memory=settings.max_memory,
        training=settings.training,
        trust=settings.trust,
        modules=settings.modules,
    )
