"""The task of the framework's process for `--against`: a model and an export of it, to the verdict on every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bninspect import formats, runtimes
from bninspect.equivalence import by_numbers, export_findings, running, source
from bninspect.equivalence.by_numbers import Held
from bninspect.equivalence.by_running import judge_run
from bninspect.equivalence.evidence.rounds import Round
from bninspect.equivalence.judgement.case import Sentence
from bninspect.equivalence.judgement.judge import by_layer
from bninspect.equivalence.pairing.source_norms import known_layers
from bninspect.equivalence.running import Ran
from bninspect.equivalence.source import SourceRun
from bninspect.errors import BninspectError
from bninspect.inspection import description, rules
from bninspect.records import (
    BatchNorm,
    Checkpoint,
    Counterpart,
    DeclaredPrecision,
    Evidence,
    Export,
    Finding,
    LayerReport,
    LayerStatus,
    ModelReport,
    Status,
    Verified,
    codec,
    outcome,
)
from bninspect.settings import Settings
from bninspect.verdicts import runtime_findings as of_runtimes
from bninspect.verdicts import selection, verify_task


def against(arguments: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None]) -> Verified:
    """Hold the model of `arguments["checkpoint"]` against each export of `arguments["exports"]`."""
    checkpoint = codec.decode(Checkpoint, arguments["checkpoint"], arrays)
    exports = [codec.decode(Checkpoint, one, arrays) for one in arguments["exports"]]
    settings = codec.decode(Settings, arguments["settings"])
    return compare_each(checkpoint, exports, settings, progress)


def compare_each(
    checkpoint: Checkpoint,
    exports: Sequence[Checkpoint],
    settings: Settings,
    progress: Callable[[str], None] = lambda _: None,
) -> Verified:
    """Run a model once, and hold it against several exports: one report for each. Args, Raises: as `compare`.

    Of several an error that is about one export is in its report.
    """
    settings = selection.for_model(settings, checkpoint.path)
    reports: list[ModelReport] = []
    environment: dict[str, Any] = {}
    known: ModelRun | None = None
    for export in exports:
        try:
            found, known = _compared(checkpoint, export, settings, progress, known)
        except BninspectError as error:
            if len(exports) == 1:
                raise
            broken = Export(export.path, export.sha256, export.bytes, export.format, export.writer, None, same=True)
            model = replace(description.model(checkpoint), status=Status.ERROR, error=outcome.problem(error))
            reports.append(replace(model, against=replace(broken, open=(str(error),))))
            continue
        reports.append(found.model)
        environment.update(found.environment)
    first, *others = reports
    return Verified(first, environment, tuple(others))


def compare(
    checkpoint: Checkpoint, export: Checkpoint, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Verified:
    """Run a model and an export of it on the same input, and account for every kernel and batch norm of the model.

    Raises:
        UsageError: the export is of a format that holds no graph, or the two do not take the same input.
        MissingPackage: no framework that could run the model is installed.
        UnreadableFile: one of the files is no longer what was read.
    """
    return compare_each(checkpoint, [export], settings, progress)


@dataclass(frozen=True, eq=False)
class ModelRun:
    """A model that has been run, and the verdict on it by itself."""

    found: SourceRun
    verified: Verified


def _ran(
    checkpoint: Checkpoint, ran: Ran, settings: Settings, known: ModelRun | None, *, alone: bool
) -> tuple[Ran, ModelRun]:
    """Run the model on the input of the export, or go on with an earlier run of it if that can take it."""
    if known is not None:
        again = (ran, known.found) if alone else running.again(ran, known.found)
        if again is not None:
            return again[0], replace(known, found=again[1])
    trial = verify_task.Trial(checkpoint, settings)
    with running.said_of(checkpoint.path):
        if alone:
            found = source.observed(checkpoint, trial.how, None, trial.begin)
        else:
            ran, found = running.together(ran, lambda data: source.observed(checkpoint, trial.how, data, trial.begin))
    return ran, ModelRun(found, trial.verdict(found.run))


def _compared(
    checkpoint: Checkpoint,
    export: Checkpoint,
    settings: Settings,
    progress: Callable[[str], None],
    known: ModelRun | None,
) -> tuple[Verified, ModelRun]:
    """Return the verdict on one export, and the run of the model that it rests on."""
    alone = bool({checkpoint.format, export.format} & {*formats.WEIGHTS_ALONE})
    ran = running.unrun(export, settings) if alone else running.exported(export, settings)
    progress(f"{checkpoint.path}: running the model")
    ran, run = _ran(checkpoint, ran, settings, known, alone=alone)
    found, verified = run.found, run.verified
    progress(f"{export.path}: looking for the batch norms of {checkpoint.path}")
    if alone:
        sentence, seen = _by_numbers(found, ran, checkpoint, export, settings), None
    else:
        sentence, seen = judge_run(found, ran, checkpoint, settings)
    counterparts = by_layer(sentence.judged)
    own = verified.model.layers
    trained = {checkpoint.format, export.format} <= {*_TRAINED}
    layers = tuple(_joined(layer, counterparts.get(layer.name), found, settings, trained=trained) for layer in own)
    title, environment = (ran.session.title, ran.session.environment) if ran.session else (None, {})
    one = Export(
        path=export.path,
        sha256=export.sha256,
        bytes=export.bytes,
        format=export.format,
        writer=export.writer,
        runtime=title,
        same=sentence.same,
        outputs=(*seen.outputs, *seen.deployed) if seen is not None else (),
        notes=(*export.notes, *ran.notes, *sentence.notes),
        open=sentence.open,
        condition=sentence.condition,
        evidence=Evidence.NUMBERS if alone else Evidence.MODEL,
    )
    # The outputs have no status but this finding: to choose some rules, --select, is not to do without them.
    counted = replace(settings, select=())
    said = (*_findings(sentence, export.path, layers), *_less_precise(ran, seen, settings))
    every = (*verified.model.findings, *rules.judged(said, "", counted))
    status = outcome.model_status(layers, every, settings.fail_on, checkpoint.unread, one.open)
    model = replace(verified.model, layers=layers, findings=every, against=one, status=status)
    return Verified(model, {**verified.environment, **environment}), run


def _by_numbers(found: SourceRun, ran: Ran, checkpoint: Checkpoint, export: Checkpoint, settings: Settings) -> Sentence:
    """Return the verdict where one of the two holds weights alone."""
    export = replace(export, layers=_of_epsilon(export.layers, checkpoint.layers, settings))
    sides = []
    for one, network in ((checkpoint, found.network), (export, ran.network)):
        if one.format in formats.WEIGHTS_ALONE:
            sides.append(by_numbers.of_weights(one))
        elif network is None:
            return Sentence((), same=True)
        else:
            sides.append(Held(network))
    return by_numbers.judge(sides[0], sides[1], known_layers(checkpoint), settings.accept)


def _of_epsilon(layers: Sequence[BatchNorm], own: Sequence[BatchNorm], settings: Settings) -> tuple[BatchNorm, ...]:
    """Return layers of an export, those that state no epsilon with that of the settings, or of the whole model."""
    known = {one.epsilon for one in own}
    (whole,) = known if len(known) == 1 else (None,)
    given = (selection.with_epsilon(one, settings) for one in layers)
    return tuple(one if one.epsilon is not None or whole is None else replace(one, epsilon=whole) for one in given)


def _less_precise(ran: Ran, seen: Round | None, settings: Settings) -> Iterator[Finding]:
    """Yield BN407 if the export is computed with less precision than was asked for."""
    wanted = settings.precision
    if wanted is None:
        return
    declared = ran.session.deployed if ran.session is not None else None
    stored = DeclaredPrecision(seen.arithmetic) if seen is not None else declared
    message = of_runtimes.short_of(declared or stored, wanted) or of_runtimes.short_of(stored, wanted)
    if message:
        yield export_findings.less_precise(message, wanted)


def _findings(sentence: Sentence, path: str, layers: Sequence[LayerReport]) -> Iterator[Finding]:
    """Yield what is to be said of the export as a whole."""
    if not sentence.same:
        yield export_findings.other_model(path, len(layers))
        return
    yield from map(export_findings.other_kernel, sentence.kernels)
    right = all(one.counterpart is not None and one.counterpart.status is LayerStatus.VERIFIED for one in layers)
    yield from (export_findings.other_output(message, layers_right=right) for message in sentence.outputs)


_TRAINED = (*runtimes.KERAS_FORMATS, *runtimes.TORCH.formats)
"""Formats whose models are trained on, so that their momentum matters; those of others are defaults mostly."""


def _joined(
    layer: LayerReport, counterpart: Counterpart | None, found: SourceRun, settings: Settings, *, trained: bool
) -> LayerReport:
    """Return a layer's own report with what became of it in the export; `trained` if both may be trained on."""
    if counterpart is None:
        counterpart = _unknown(layer, found)
    said = export_findings.of_layer(counterpart, layer.epsilon)
    if counterpart.momentum is not None and trained:
        said += (export_findings.other_momentum(layer.name, layer.momentum, counterpart),)
    every = (*layer.findings, *rules.judged(said, layer.name, settings))
    return outcome.joined(replace(layer, findings=every), counterpart)


def _unknown(layer: LayerReport, found: SourceRun) -> Counterpart:
    if layer.epsilon is None:
        reason = "the file of the model does not state epsilon: supply it with --epsilon [GLOB=]VALUE"
    elif found.network is None:
        reason = found.reason or "its source shows only layers that run alone, and not what feeds them"
    else:
        reason = f"it was not seen in its source: {layer.reason or found.reason or 'it never ran'}"
    return Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=reason)
