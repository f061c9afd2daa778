"""The task of the framework's process for `--against`: a model and an export of it, to the verdict on every layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bninspect import runtimes
from bninspect.arithmetic.bounds import precision
from bninspect.equivalence import (
    by_numbers,
    diagnosis,
    evidence,
    findings,
    folding,
    pairing,
    rebiasing,
    running,
    samples,
    source,
    verdicts,
    wiring,
)
from bninspect.equivalence.by_numbers import Held
from bninspect.equivalence.evidence import Round, Subject
from bninspect.equivalence.pairing import Pairing
from bninspect.equivalence.running import Ran
from bninspect.equivalence.source import SourceRun
from bninspect.equivalence.verdicts import Case, Sentence
from bninspect.errors import BninspectError, RuntimeFailure
from bninspect.inspection import description, rules
from bninspect.records import (
    BatchNorm,
    Checkpoint,
    Counterpart,
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
from bninspect.records.graph import Network
from bninspect.runtimes import session as graph_run
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import findings as of_runtimes
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
    alone = bool({checkpoint.format, export.format} & {*by_numbers.FORMATS})
    ran = running.unrun(export, settings) if alone else running.exported(export, settings)
    progress(f"{checkpoint.path}: running the model")
    ran, run = _ran(checkpoint, ran, settings, known, alone=alone)
    found, verified = run.found, run.verified
    progress(f"{export.path}: looking for the batch norms of {checkpoint.path}")
    if alone:
        sentence, seen = _by_numbers(found, ran, checkpoint, export, settings), None
    else:
        sentence, seen = _held(found, ran, checkpoint, settings)
    counterparts = verdicts.by_layer(sentence.judged)
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
        evidence=Evidence.NUMBERS if alone else Evidence.MODEL,
    )
    # The outputs have no status but this finding: to choose some rules, --select, is not to do without them.
    counted = replace(settings, select=())
    said = (*_findings(sentence, export.path, layers), *_less_precise(ran, settings))
    every = (*verified.model.findings, *rules.judged(said, "", counted))
    status = outcome.model_status(layers, every, settings.fail_on, checkpoint.unread, one.open)
    model = replace(verified.model, layers=layers, findings=every, against=one, status=status)
    return Verified(model, {**verified.environment, **environment}), run


def _by_numbers(found: SourceRun, ran: Ran, checkpoint: Checkpoint, export: Checkpoint, settings: Settings) -> Sentence:
    """Return the verdict where one of the two holds weights alone."""
    export = replace(export, layers=_of_epsilon(export.layers, checkpoint.layers, settings))
    sides = []
    for one, network in ((checkpoint, found.network), (export, ran.network)):
        if one.format in by_numbers.FORMATS:
            sides.append(by_numbers.of_weights(one))
        elif network is None:
            return Sentence((), same=True)
        else:
            sides.append(Held(network))
    return by_numbers.judge(sides[0], sides[1], _known(checkpoint), settings.accept)


def _of_epsilon(layers: Sequence[BatchNorm], own: Sequence[BatchNorm], settings: Settings) -> tuple[BatchNorm, ...]:
    """Return layers of an export, those that state no epsilon with that of the settings, or of the whole model."""
    known = {one.epsilon for one in own}
    (whole,) = known if len(known) == 1 else (None,)
    given = (selection.with_epsilon(one, settings) for one in layers)
    return tuple(one if one.epsilon is not None or whole is None else replace(one, epsilon=whole) for one in given)


def _held(found: SourceRun, ran: Ran, checkpoint: Checkpoint, settings: Settings) -> tuple[Sentence, Round | None]:
    """Return the verdict on the export, and what was seen of it."""
    if found.network is None:
        return Sentence((), same=True, open=(found.reason or "what the model computes cannot be seen",)), None
    export = _live(ran.network)
    norms = pairing.norms(found.network, _known(checkpoint))
    paired = rebiasing.completed(pairing.pair(norms, found.network, export), norms, export)
    diagnoses = {
        norm: diagnosis.diagnose(norm, paired, [one for one in norms if one.layer is not norm.layer], export)
        for norm in paired.missing
    }
    taken = {id(one.node) for one in diagnoses.values() if one.node is not None}
    lost = diagnosis.of_kernels(paired, taken)
    seen, reason = None, f"the export was not run: {ran.reason}"
    if ran.session is not None:
        subject = Subject(found.network, export, ran.session, found.replay, found.forces, paired.places, settings.seed)
        try:
            seen = _seen(subject, ran, found)
        except RuntimeFailure as failure:
            reason = f"it could not be recomputed: {failure}"
    case = Case(norms, found.network, export, paired, diagnoses, lost, seen, reason, replayed=found.replay is not None)
    sentence = verdicts.judge(case)
    return replace(sentence, notes=(*sentence.notes, *_notes(paired, seen, taken), *_declared(ran))), seen


def _declared(ran: Ran) -> Iterator[str]:
    """Yield that the runtime computes in a coarser type by default, and what that hides."""
    declared = ran.session.deployed if ran.session is not None else None
    if declared is not None:
        part = 100 * wiring.FLOOR * precision(declared.dtype).unit
        hides = f"its outputs may then be off by {part:.2g} % of their largest, and what is smaller does not show"
        yield f"by default it computes in {graph_run.said(declared)}: {hides}"


def _less_precise(ran: Ran, settings: Settings) -> Iterator[Finding]:
    """Yield BN306 if the export is computed with less precision than was asked for."""
    declared = ran.session.deployed if ran.session is not None else None
    if settings.precision is not None and declared is not None:
        less = of_runtimes.less_precise(declared, settings.precision)
        if less is not None:
            yield less


def _known(checkpoint: Checkpoint) -> dict[str, BatchNorm]:
    """Return the layers whose scale and shift the file states, by name."""
    known = {}
    for layer in checkpoint.layers:
        try:
            folding.affine(layer)
        except BninspectError:
            continue
        known[layer.name] = layer
    return known


def _live(network: Network) -> Network:
    """Return a graph without the operations whose results nobody reads."""
    producers = network.producers()
    needed: set[int] = set()
    waiting = [one.name for one in network.outputs]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            waiting += node.inputs
    return replace(network, nodes=tuple(node for node in network.nodes if id(node) in needed))


def _seen(subject: Subject, ran: Ran, found: SourceRun) -> Round:
    """Run both on the input at hand, and on other input while that might still show something."""
    seen = evidence.see(subject, ran.data, found.data)
    if seen.wrong or ran.given or not seen.is_open or found.replay is None:
        return seen
    for given, data in samples.further(ran.data, found.data, subject):
        seen = evidence.join(seen, evidence.see(subject, given, data))
        if seen.wrong or not seen.is_open:
            break
    return seen


def _notes(paired: Pairing, seen: Round | None, taken: Collection[int]) -> Iterator[str]:
    # One number to multiply with and one to add are what models do to their input, for instance.
    left = [node for node in paired.pairs if id(node) not in taken]  # what is wrong of others is said of the layer
    extra = [node.name for node in left if node.kernel is not None and node.kernel.outputs > 1]
    if extra:
        others = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        yield f"it also scales and shifts where the model does not: at {printable(extra[0])}{others}"
    if seen is None:
        return
    if seen.off is not None:
        yield f"run each on its own, the outputs differ by {seen.off:.2g} of the largest"
    if seen.agreement is not None:
        same, of = seen.agreement
        yield f"the largest output is the same for {same} of {of} sample{'' if of == 1 else 's'}"
    if list(seen.order) != sorted(seen.order):
        yield f"it returns the outputs of the model in another order: {', '.join(map(str, seen.order))}"
    yield from _costs(seen)


def _costs(seen: Round) -> Iterator[str]:
    """Yield what quantisation costs, and where numbers are cut off at the ends of their range."""
    costs = [(proof.cost, place) for place in seen.places if (proof := seen.proofs[id(place.node)]).cost is not None]
    if costs:
        most, place = max(costs, key=lambda one: one[0] or 0.0)
        where = printable(place.node.name)
        yield f"it is quantised, which costs at most {most:.3g} steps of an operation's output, at {where}"
    for place in seen.places:
        proof = seen.proofs[id(place.node)]
        if proof.cut > 0:
            share = f"{100 * proof.cut:.2g} % of the outputs of {printable(place.node.name)}"
            would = f"a range of {proof.needs[0]:.3g} to {proof.needs[1]:.3g} would hold them"
            yield f"{share} are beyond what their type can hold, and are cut off: {would}"
    if cut := {name: share for name, share in seen.cut.items() if share > 0}:
        name, most = max(cut.items(), key=lambda one: one[1])
        where = f"{100 * most:.2g} % of what goes into {printable(name)}"
        yield f"{where} is beyond its steps, and is cut off; of {len(cut)} of {len(seen.cut)} values some are"


def _findings(sentence: Sentence, path: str, layers: Sequence[LayerReport]) -> Iterator[Finding]:
    """Yield what is to be said of the export as a whole."""
    if not sentence.same:
        yield findings.other_model(path, len(layers))
        return
    yield from map(findings.other_kernel, sentence.kernels)
    right = all(one.counterpart is not None and one.counterpart.status is LayerStatus.VERIFIED for one in layers)
    yield from (findings.other_output(message, layers_right=right) for message in sentence.outputs)


_TRAINED = (*runtimes.KERAS_FORMATS, *runtimes.TORCH.formats)
"""Formats whose models are trained on, so that their momentum matters; those of others are defaults mostly."""


def _joined(
    layer: LayerReport, counterpart: Counterpart | None, found: SourceRun, settings: Settings, *, trained: bool
) -> LayerReport:
    """Return a layer's own report with what became of it in the export; `trained` if both may be trained on."""
    if counterpart is None:
        counterpart = _unknown(layer, found)
    said = findings.of_layer(counterpart, layer.epsilon)
    if counterpart.momentum is not None and trained:
        said += (findings.other_momentum(layer.name, layer.momentum, counterpart),)
    every = (*layer.findings, *rules.judged(said, layer.name, settings))
    return outcome.joined(replace(layer, findings=every), counterpart)


def _unknown(layer: LayerReport, found: SourceRun) -> Counterpart:
    if found.network is None:
        reason = found.reason or "its source shows only layers that run alone, and not what feeds them"
        return Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=reason)
    reason = f"it was not seen in its source: {layer.reason or found.reason or 'it never ran'}"
    return Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=reason)
