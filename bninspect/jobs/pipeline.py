"""The program: straight lines from paths to a Report. What parses files or runs frameworks happens in workers."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import bninspect.reports  # noqa: F401 - tells how notebooks show what comes out of here
from bninspect import errors
from bninspect.inspection import description, rules
from bninspect.jobs import baseline, elsewhere, named_models, processes, results, several_exports, shards
from bninspect.jobs.context import DEFAULTS, SILENT, PathLike, Surroundings
from bninspect.jobs.process_pairs import ProcessPair, Work, attend
from bninspect.records import Checkpoint, ModelReport, Report, Status, Verified, outcome
from bninspect.settings import Settings
from bninspect.stores import names
from bninspect.stores.names import Remote
from bninspect.verdicts import selection
from bninspect.workers import tasks


def inspect(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Report what the files say of their batch-norm layers, without any framework.

    Args:
        paths: model files and folders; a folder that is not a model is searched for models, and a pattern filled in.
        settings: layers to keep, epsilon for those whose file states none, limits, and what counts as a failure.
        around: who is told of what is going on, and what is known from before.

    Raises:
        UsageError: the settings do not fit the models. Every other error of one model is in its place in the report.
    """
    return _report("inspect", _inspect_model, paths, settings, around)


def _inspect_model(pair: ProcessPair, path: str) -> tuple[ModelReport, ...]:
    brief = pair.around.brief
    whole = selection.complete(pair.read(path, digest=not brief, whole=False), pair.settings)
    checkpoint = selection.select(whole, pair.settings)
    mine = selection.for_model(pair.settings, checkpoint.path)
    layers = tuple(
        description.describe(layer, rules.judged(rules.check(layer, checkpoint.writer), layer.name, mine), brief=brief)
        for layer in checkpoint.layers
    )
    status = outcome.model_status(layers, (), pair.settings.fail_on, checkpoint.unread)
    return (_scoped(replace(description.model(checkpoint), layers=layers, status=status), whole, pair),)


def _scoped(model: ModelReport, whole: Checkpoint, pair: ProcessPair) -> ModelReport:
    """Return the report of a model with what it leaves out of the whole file."""
    return replace(model, left_out=selection.left_out(whole, pair.settings, pair.around.options))


def verify(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Recompute every batch-norm layer by hand and compare with what the framework computes.

    One framework process serves many files, and is replaced if a file ends it. Args, Raises: as `inspect`.
    """
    ahead = None if around.earlier else tasks.verify_model
    settings, around = _with_exports(settings, around)
    return _report("verify", _verify_model, paths, settings, around, ahead)


def _with_exports(settings: Settings, around: Surroundings) -> tuple[Settings, Surroundings]:
    """Return both with the names of exports elsewhere instead of their URLs, which may hold secrets."""
    found = {one: names.remote(one, allowed=settings.allow_host) for one in settings.against if names.is_url(one)}
    named = tuple(found[one].name if one in found else one for one in settings.against)
    return replace(settings, against=named), replace(
        around, urls={**around.urls, **{e.name: e for e in found.values()}}
    )


def _verify_model(pair: ProcessPair, path: str) -> tuple[ModelReport, ...]:
    # All layers go along, chosen or not: a batch norm that the reader has not found must be noticed.
    checkpoint = selection.complete(pair.read(path), pair.settings)
    return tuple(_scoped(model, checkpoint, pair) for model in _verified(pair, path, checkpoint))


def _verified(pair: ProcessPair, path: str, checkpoint: Checkpoint) -> tuple[ModelReport, ...]:
    settings, around = pair.settings, pair.around
    if not any(selection.wanted(layer.name, settings) for layer in checkpoint.layers):
        return (description.model(checkpoint),)
    earlier = around.earlier.get(path)  # not that of a copy
    if not settings.against and earlier is not None and earlier.sha256 == checkpoint.sha256 is not None:
        return (earlier,)
    arguments: dict[str, Any] = {"checkpoint": checkpoint, "settings": settings}
    if not settings.against:
        return _run(pair, tasks.verify_model, checkpoint, arguments)
    if len(settings.against) == 1 and _holds_arrays(Path(settings.against[0])):
        arguments["outputs"] = settings.against[0]
        return (pair.reader.call(tasks.judge_outputs, Verified, arguments).model,)
    exports = several_exports.read(pair)
    if not exports.readable:
        return exports.reports(checkpoint, ())
    arguments["exports"] = exports.readable
    return exports.reports(checkpoint, _run(pair, tasks.hold_against_export, checkpoint, arguments))


def _run(
    pair: ProcessPair, task: tasks.Task[Verified], checkpoint: Checkpoint, arguments: Mapping[str, Any]
) -> tuple[ModelReport, ...]:
    """Have the framework's process run a model. Of which file it is known that it did not end is kept with it."""
    try:
        verified = pair.runner.call(task, Verified, arguments, pair.around.progress)
    except errors.LimitExceeded as error:
        # A later run need not wait for the same again.
        return (replace(description.model(checkpoint), status=Status.ERROR, error=outcome.problem(error)),)
    pair.environment.update(verified.environment)
    return verified.model, *verified.others


def drift(
    paths: PathLike | Iterable[PathLike],
    settings: Settings = DEFAULTS,
    around: Surroundings = SILENT,
) -> Report:
    """Hold the statistics that models store against those of the data that `settings.data` names.

    Args, Raises: as `inspect`.
    """
    return _report("drift", _drift_of_model, paths, settings, around)


def _drift_of_model(pair: ProcessPair, path: str) -> tuple[ModelReport, ...]:
    checkpoint = selection.complete(pair.read(path), pair.settings)
    if not any(selection.wanted(layer.name, pair.settings) for layer in checkpoint.layers):
        return (_scoped(description.model(checkpoint), checkpoint, pair),)
    arguments = {"checkpoint": checkpoint, "settings": pair.settings}
    every = _run(pair, tasks.hold_against_data, checkpoint, arguments)
    return tuple(_scoped(model, checkpoint, pair) for model in every)


def _holds_arrays(path: Path) -> bool:
    """Return whether a file is a .npz: outputs of a runtime, not an export."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(30 + 0xFFFF)
    except OSError:
        return False  # its reader says why
    return head.startswith(b"PK\x03\x04") and head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b".npy")


def _report(
    command: str,
    work: Work,
    paths: PathLike | Iterable[PathLike],
    settings: Settings,
    around: Surroundings,
    ahead: tasks.Task[Any] | None = None,
) -> Report:
    every = (paths,) if isinstance(paths, (str, Path)) else paths
    gathered, urls = _gathered(list(map(str, every)), settings, around)
    around = replace(around, urls={**around.urls, **urls})
    chosen, shard = shards.chosen(gathered.models, settings.shard)
    if not any(map(tasks.may_need_tensorflow, chosen)):
        ahead = None
    around.began(len(chosen))
    found = results.Results(settings, kept=around.kept, paths=around.baseline is not None, shard=shard)
    running: dict[str, Any] = dict(around.running)
    with closing(_attended(chosen, command, work, settings, around, ahead, running)) as ended:
        for number, model in ended:
            found.add(number, model)
            around.ended(model)
    if shard is None:
        found.require_layers()
    if shard is None or shard.index == 1:
        absent = [outcome.broken(path, named_models.nothing(path)) for path in gathered.vain]
        if around.baseline and shard is None:
            absent += baseline.gone(around.baseline, found.paths or (), gathered.searched)
        for number, model in enumerate(absent, len(chosen)):
            found.add(number, model)
            around.ended(model)
    report = outcome.report(
        command,
        found.models,
        options=around.options,
        allow_empty=settings.allow_empty,
        running=running,
        shard=found.placed(shard),
    )
    return replace(report, summary=found.summary(shard))


def _gathered(
    arguments: list[str], settings: Settings, around: Surroundings
) -> tuple[named_models.Gathered, Mapping[str, Remote]]:
    """Return what the arguments stand for, and where those of them are that are elsewhere."""
    found = {url: elsewhere.find(url, settings, listed=url in around.listed) for url in filter(names.is_url, arguments)}
    every = elsewhere.together(found.values())
    here = named_models.gather(
        (name for argument in arguments for name in (found[argument].models if argument in found else (argument,))),
        partial(processes.search, settings=settings, around=around),
    )
    return replace(here, vain=here.vain + every.vain, searched=here.searched + every.searched), every.models


def _attended(
    chosen: Sequence[str],
    command: str,
    work: Work,
    settings: Settings,
    around: Surroundings,
    ahead: tasks.Task[Any] | None,
    running: dict[str, Any],
) -> Generator[tuple[int, ModelReport]]:
    """Yield the place and the report of each model as it ends; `running` takes what its framework runs on."""
    if settings.dask and chosen:
        from bninspect.jobs.cluster.client import Cluster

        yield from Cluster(work, settings, around, ahead, running, runs=command != "inspect").attend(chosen)
        return
    places = max(1, min(settings.jobs, len(chosen)))
    pairs = tuple(ProcessPair(work, settings, around, ahead) for _ in range(places))
    yield from attend(chosen, pairs)
    running.update(ChainMap(*(pair.environment for pair in pairs)))
