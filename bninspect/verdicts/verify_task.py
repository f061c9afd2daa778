"""The task of the framework's process: one Checkpoint and its file to the verdict on every layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bninspect import runtimes
from bninspect.errors import MissingPackage, UsageError
from bninspect.inspection import description, rules
from bninspect.records import Checkpoint, Finding, Run, Verified, codec
from bninspect.records import outcome as verdict
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import runtime_findings, selection
from bninspect.verdicts.layers import Judge


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
    checkpoint: Checkpoint, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Verified:
    """Run a model in the first framework that loads its file, and compare every batch-norm call with the formula.

    Args:
        checkpoint: what is known of the model.
        settings: what was asked for.
        progress: told what is going on.

    Raises:
        MissingPackage: no framework that could run it is installed.
        RuntimeFailure: the framework failed in a way that says nothing about the layers.
        UsageError: the given input, signature or tag does not fit the model.
    """
    trial = Trial(checkpoint, settings)
    progress(f"{checkpoint.path}: running the model")
    return trial.verdict(runtimes.run(checkpoint, trial.how, trial.begin))


class Trial:
    """A model and the verdict on it, while something runs the model: each call is compared as it happens.

    Args:
        checkpoint: what is known of the model.
        settings: what was asked for.

    Raises:
        UsageError: `settings` asks for what only models of another format have.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        if (settings.signature or settings.tag) and checkpoint.format != "saved-model":
            why = f"{printable(checkpoint.path)} is {checkpoint.format}"
            raise UsageError("--signature and --tag are for SavedModels", why=why)
        self._checkpoint = checkpoint
        self._settings = selection.for_model(settings, checkpoint.path)
        self._judge = Judge(checkpoint.layers, self._settings, checkpoint.writer)
        self.how = run_settings(self._settings)
        """How the model is to be run."""

    def begin(self) -> runtimes.Sink:
        """Start an attempt: a runtime that failed half-way must leave nothing behind, the next is judged afresh."""
        self._judge = Judge(self._checkpoint.layers, self._settings, self._checkpoint.writer)
        return self._judge.see

    def verdict(self, run: Run) -> Verified:
        """Return the verdict on the model, by what the last attempt showed."""
        layers = self._judge.reports(run)
        precision = run.precision or self._judge.precision
        found: tuple[Finding, ...] = ()
        if self._settings.precision is not None:
            less = runtime_findings.less_precise(precision, self._settings.precision)
            found = rules.judged(() if less is None else (less,), "", self._settings)
        model = replace(
            description.model(self._checkpoint),
            status=verdict.model_status(layers, found, self._settings.fail_on, self._checkpoint.unread),
            findings=found,
            precision=precision,
            runtime=run.runtime,
            evidence=run.evidence,
            notes=(*self._checkpoint.notes, *run.notes),
            layers=layers,
        )
        return Verified(model, run.environment)


def run_settings(settings: Settings) -> runtimes.RunSettings:
    """Return what a runtime is told of the settings."""
    return runtimes.RunSettings(
        runtime=settings.runtime,
        seed=settings.seed,
        input=Path(settings.input) if settings.input else None,
        input_shapes=settings.input_shapes,
        signature=settings.signature,
        tag=settings.tag,
        memory=settings.max_memory,
        training=settings.training,
        trust=settings.trust,
        modules=settings.modules,
    )
