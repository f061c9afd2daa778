"""The program: straight lines from paths to a Report. What parses files or runs frameworks happens in workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import bninspect.reports  # noqa: F401 - tells how notebooks show what comes out of here
from bninspect import errors, safe_text
from bninspect.inspection import description, rules
from bninspect.jobs import baseline, gather, processes, shards, stations
from bninspect.jobs.context import Surroundings
from bninspect.jobs.stations import Station, Work
from bninspect.records import Checkpoint, ModelReport, Report, Status, Verified, verdict
from bninspect.settings import Settings
from bninspect.verdicts import selection
from bninspect.workers.start import READ
from bninspect.workers.supervisor import Worker

PathLike = str | Path

_VERIFY = "bninspect.verdicts.verify_task:verify"
_AGAINST = "bninspect.conversion.task:against"
_DRIFT = "bninspect.statistics.drift:drift"
_RETURNED = "bninspect.verdicts.own_runtime.outputs:judge"

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
    with processes.reader(settings, around) as reader:
        checkpoint = selection.select(_read(reader, path), settings)
    _require_layers(checkpoint.layers, settings)
    return checkpoint


def inspect(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Report what the files say of their batch-norm layers, without any framework.

    Args:
        paths: model files and folders; a folder that is no model is searched for models, and a pattern filled in.
        settings: as for `load`, and what counts as a failure.
        around: who is told of what is going on, and what is known from before.

    Raises:
        UsageError: the settings do not fit the models. Every other error of one model is in its place in the report.
    """

    @contextmanager
    def station() -> Iterator[Work]:
        with processes.reader(settings, around) as reader:

            def one(path: str) -> ModelReport:
                checkpoint = selection.select(_read(reader, path, digest=not around.brief), settings)
                mine = selection.for_model(settings, checkpoint.path)
                layers = tuple(
                    description.describe(layer, rules.judged(rules.check(layer), layer.name, mine), brief=around.brief)
                    for layer in checkpoint.layers
                )
                return replace(
                    description.model(checkpoint),
                    layers=layers,
                    status=verdict.model_status(layers, (), settings.fail_on, checkpoint.unread),
                )

            yield one

    return _report("inspect", paths, station, settings, around)


def verify(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Recompute every batch-norm layer by hand and compare with what the framework computes.

    One framework process serves many files, and is replaced if a file ends it. Args, Raises: as `inspect`.
    """
    environment = dict(around.running)

    @contextmanager
    def station() -> Iterator[Work]:
        with processes.reader(settings, around) as reader, processes.runner(settings, around) as runner:
            if not around.earlier and not _is_of_other_runtimes(paths):
                runner.start(_VERIFY)

            def one(path: str) -> ModelReport:
                # All layers go along, chosen or not: a batch norm that the reader has not found must be noticed.
                checkpoint = selection.complete(_read(reader, path), settings)
                if not any(selection.wanted(layer.name, settings) for layer in checkpoint.layers):
                    return description.model(checkpoint)
                earlier = around.earlier.get(checkpoint.path)
                if settings.against is None and earlier is not None and earlier.sha256 == checkpoint.sha256 is not None:
                    return earlier
                arguments = {"checkpoint": checkpoint, "settings": settings}
                task = _VERIFY
                if settings.against is not None and _holds_arrays(Path(settings.against)):
                    return reader.call(_RETURNED, Verified, {**arguments, "outputs": settings.against}).model
                if settings.against is not None:
                    task, arguments["export"] = _AGAINST, _read(reader, settings.against)
                try:
                    verified = runner.call(task, Verified, arguments, around.progress)
                except errors.LimitExceeded as error:
                    # Of which file that is known: a later run need not wait for the same again.
                    return replace(description.model(checkpoint), status=Status.ERROR, error=verdict.problem(error))
                environment.update(verified.environment)
                return verified.model

            yield one

    return _report("verify", paths, station, settings, around, environment)


def drift(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Hold the statistics that models store against those of the data that `settings.data` names.

    Args, Raises: as `inspect`.
    """
    environment = dict(around.running)

    @contextmanager
    def station() -> Iterator[Work]:
        with processes.reader(settings, around) as reader, processes.runner(settings, around) as runner:

            def one(path: str) -> ModelReport:
                checkpoint = selection.complete(_read(reader, path), settings)
                if not any(selection.wanted(layer.name, settings) for layer in checkpoint.layers):
                    return description.model(checkpoint)
                arguments = {"checkpoint": checkpoint, "settings": settings}
                found = runner.call(_DRIFT, Verified, arguments, around.progress)
                environment.update(found.environment)
                return found.model

            yield one

    return _report("drift", paths, station, settings, around, environment)


_OTHER_RUNTIMES = (".onnx", ".tflite", ".pt", ".pth", ".pt2")


def _is_of_other_runtimes(paths: PathLike | Iterable[PathLike]) -> bool:
    """Guess by its name that a single model needs no TensorFlow, whose import ahead of time would only take time."""
    every = [paths] if isinstance(paths, (str, Path)) else list(paths) if isinstance(paths, (list, tuple)) else []
    return len(every) == 1 and str(every[0]).endswith(_OTHER_RUNTIMES)


def _holds_arrays(path: Path) -> bool:
    """Return whether a file is a .npz: outputs of a runtime, not an export."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(30 + 0xFFFF)
    return head.startswith(b"PK\x03\x04") and head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b".npy")


def _report(
    command: str,
    paths: PathLike | Iterable[PathLike],
    station: Station,
    settings: Settings,
    around: Surroundings,
    environment: Mapping[str, Any] | None = None,
) -> Report:
    every = (paths,) if isinstance(paths, (str, Path)) else paths
    gathered = gather.gather(map(str, every), partial(processes.search, settings=settings, around=around))
    chosen, shard = shards.chosen(gathered.models, settings.shard)
    around.began(len(chosen))
    judged = partial(_judged, settings=settings, around=around)
    models = list(
        stations.attend(chosen, partial(_attempting, station, judged, around), jobs=settings.jobs, ended=around.ended)
    )
    if shard is None or shard.index == 1:
        absent = [verdict.broken(path, gather.nothing(path)) for path in gathered.vain]
        if around.baseline and shard is None:
            absent += baseline.gone(around.baseline, models, gathered.searched)
        for model in absent:
            around.ended(model)
        models += absent
    readable = [model for model in models if model.error is None]
    if readable and shard is None:
        _require_layers([found for model in readable for found in (*model.layers, *model.unread)], settings)
    return verdict.report(
        command,
        models,
        options=around.options,
        allow_empty=settings.allow_empty,
        running=environment or {},
        shard=shard,
    )


@contextmanager
def _attempting(station: Station, judged: Callable[[ModelReport], ModelReport], around: Surroundings) -> Iterator[Work]:
    """Make the errors of a model a part of its report, except wrong usage, which ends the command."""
    with station() as work:

        def one(path: str) -> ModelReport:
            around.progress(safe_text.printable(path))
            start = time.monotonic()
            try:
                model = work(path)
            except errors.UsageError:
                raise
            except errors.BninspectError as error:
                model = verdict.broken(path, error)
            finally:
                around.progress("")
            seconds = model.seconds or round(time.monotonic() - start, 3)  # one of an earlier run keeps its own
            return judged(replace(model, seconds=seconds))

        yield one


def _judged(model: ModelReport, settings: Settings, around: Surroundings) -> ModelReport:
    return baseline.judged(model, around.baseline, settings) if around.baseline else model


def _read(reader: Worker, path: PathLike, *, digest: bool = True) -> Checkpoint:
    return reader.call(READ, Checkpoint, {"path": str(path), "digest": digest})


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
