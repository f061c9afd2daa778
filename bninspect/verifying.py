"""The task of the framework's process: one Checkpoint and its file to the verdict on every layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bninspect import runtimes, summary, wire
from bninspect.errors import MissingPackage
from bninspect.judging import Judge
from bninspect.records import Checkpoint, ModelReport, Verified
from bninspect.settings import Settings


def prepare() -> None:
    """Import the framework while the file is still being read: it takes seconds."""
    with contextlib.suppress(MissingPackage):  # which is said when a model is to be run
        runtimes.prepare()


def verify(arguments: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None]) -> Verified:
    """Run the model of `arguments["checkpoint"]` and compare every batch-norm call with the formula."""
    checkpoint = wire.decode(Checkpoint, arguments["checkpoint"], arrays)
    settings = wire.decode(Settings, arguments["settings"])
    return verify_checkpoint(checkpoint, settings, progress)


def verify_checkpoint(
    checkpoint: Checkpoint, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Verified:
    """Run a model in a framework and compare every batch-norm call with the formula, as it happens.

    Raises:
        MissingPackage: no framework that could run it is installed.
        RuntimeFailure: the framework failed in a way that says nothing about the layers.
        UsageError: the given input does not fit the model.
    """
    judge = Judge(checkpoint.layers, settings)

    def begin() -> runtimes.Sink:
        # A runtime that failed half-way must leave nothing behind: the next attempt is judged afresh.
        nonlocal judge
        judge = Judge(checkpoint.layers, settings)
        return judge.see

    progress(f"{checkpoint.path}: running the model")
    run = runtimes.run(checkpoint, _run_settings(settings), begin)
    layers = judge.reports(run)
    model = ModelReport(
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        bytes=checkpoint.bytes,
        format=checkpoint.format,
        writer=checkpoint.writer,
        status=summary.model_status(layers, (), settings.fail_on),
        runtime=run.runtime,
        evidence=run.evidence,
        notes=(*checkpoint.notes, *run.notes),
        layers=layers,
    )
    return Verified(model, run.environment)


def _run_settings(settings: Settings) -> runtimes.RunSettings:
    return runtimes.RunSettings(
        runtime=settings.runtime,
        seed=settings.seed,
        input_path=Path(settings.input) if settings.input else None,
        input_shapes=settings.input_shapes,
        trust=settings.trust,
        modules=settings.modules,
    )
