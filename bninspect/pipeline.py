"""The program: straight lines from paths to a Report. What parses files or runs frameworks happens in workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bninspect import errors, judging, names, rules, selection, summary
from bninspect.records import Checkpoint, ModelReport, Option, Report, Status, Verified
from bninspect.settings import READ_BYTES, READ_SECONDS, RUN_SECONDS, Settings
from bninspect.worker import Limits, Progress, Worker, machine_memory, silent

PathLike = str | Path

_READ = "bninspect.reading:read"
_VERIFY = "bninspect.verifying:verify"


@dataclass(frozen=True)
class Surroundings:
    """Where progress and the workers' complaints go, and where each option came from. The defaults are silent."""

    progress: Progress = silent
    complain: Progress = silent
    verbose: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)


DEFAULTS = Settings()
SILENT = Surroundings()


def load(path: PathLike, settings: Settings = DEFAULTS, around: Surroundings = SILENT) -> Checkpoint:
    """Read one model file in a supervised process.

    Args:
        path: a file or folder of any format that `bninspect doctor` lists.
        settings: layers to keep, epsilon for those whose file states none, limits.
        around: where progress and complaints go.

    Raises:
        UnreadableFile, LimitExceeded, WorkerDied: it cannot be read.
        NothingToCheck: it holds no batch-norm layer.
        UsageError: `settings.layers` fits none of them.
    """
    with _reader(settings, around) as reader:
        checkpoint = selection.select(_read(reader, path), settings)
    _require_layers(checkpoint.layers, settings)
    return checkpoint


def inspect(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Report what the files say of their batch-norm layers, without any framework.

    Args, Raises: as `load`; an error of one file is in its place in the report.
    """
    with _reader(settings, around) as reader:

        def one(path: PathLike) -> ModelReport:
            checkpoint = selection.select(_read(reader, path), settings)
            layers = tuple(
                judging.describe(layer, rules.judged(rules.check(layer), settings)) for layer in checkpoint.layers
            )
            return replace(
                _described(checkpoint),
                layers=layers,
                status=summary.model_status(layers, (), settings.fail_on),
            )

        return _report("inspect", paths, one, settings, around)


def verify(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Recompute every batch-norm layer by hand and compare with what the framework computes.

    The files of one call share one framework process. Args, Raises: as `inspect`.
    """
    environment: dict[str, Any] = {}
    with _reader(settings, around) as reader, _runner(settings, around) as runner:
        runner.prepare(_VERIFY)

        def one(path: PathLike) -> ModelReport:
            # All layers go along, chosen or not: a batch norm that the reader has not found must be noticed.
            checkpoint = selection.complete(_read(reader, path), settings)
            if not any(selection.wanted(layer.name, settings) for layer in checkpoint.layers):
                return _described(checkpoint)
            arguments = {"checkpoint": checkpoint, "settings": settings}
            verified = runner.call(_VERIFY, Verified, arguments, around.progress)
            environment.update(verified.environment)
            return verified.model

        return _report("verify", paths, one, settings, around, environment)


def _report(
    command: str,
    paths: PathLike | Iterable[PathLike],
    one: Callable[[PathLike], ModelReport],
    settings: Settings,
    around: Surroundings,
    environment: Mapping[str, Any] | None = None,
) -> Report:
    every = (paths,) if isinstance(paths, (str, Path)) else paths
    models = [_attempt(path, one, around) for path in every]
    readable = [model for model in models if model.error is None]
    if readable:
        _require_layers([layer for model in readable for layer in model.layers], settings)
    return summary.report(
        command, models, options=around.options, allow_empty=settings.allow_empty, running=environment or {}
    )


def _attempt(path: PathLike, one: Callable[[PathLike], ModelReport], around: Surroundings) -> ModelReport:
    """Return the report of one model; its errors are part of it, except wrong usage, which ends the command."""
    around.progress(names.printable(str(path)))
    start = time.monotonic()
    try:
        model = one(path)
    except errors.UsageError:
        raise
    except errors.BninspectError as error:
        model = summary.broken(str(path), error)
    return replace(model, seconds=round(time.monotonic() - start, 3))


def _read(reader: Worker, path: PathLike) -> Checkpoint:
    return reader.call(_READ, Checkpoint, {"path": str(path)})


def _described(checkpoint: Checkpoint) -> ModelReport:
    return ModelReport(
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        bytes=checkpoint.bytes,
        format=checkpoint.format,
        writer=checkpoint.writer,
        status=Status.EMPTY,
        notes=checkpoint.notes,
    )


def _require_layers(layers: Iterable[Any], settings: Settings) -> None:
    if not any(True for _ in layers) and (settings.layers or settings.exclude_layers):
        raise errors.UsageError(
            "no layer fits the given patterns",
            why=" ".join(
                [
                    *(f"--layer {one}" for one in settings.layers),
                    *(f"--exclude-layer {one}" for one in settings.exclude_layers),
                ]
            ),
            hint="bninspect inspect MODEL lists the names",
        )


@contextmanager
def _reader(settings: Settings, around: Surroundings) -> Iterator[Worker]:
    limits = Limits(settings.timeout or READ_SECONDS, settings.max_memory or READ_BYTES)
    with Worker(limits, verbose=around.verbose, show=around.complain if around.verbose else silent) as worker:
        worker.prepare(_READ)
        yield worker


@contextmanager
def _runner(settings: Settings, around: Surroundings) -> Iterator[Worker]:
    limits = Limits(settings.timeout or RUN_SECONDS, settings.max_memory or machine_memory(), watched=True)
    with Worker(limits, verbose=around.verbose, show=around.complain) as worker:
        yield worker
