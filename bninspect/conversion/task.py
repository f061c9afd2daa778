"""The task of the framework's process for `--against`: a model and an export of it, to the verdict on every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.conversion import export as running
from bninspect.conversion import findings, folding, outputs, pairing, source, verdicts
from bninspect.conversion.source import SourceRun
from bninspect.conversion.verdicts import Seen
from bninspect.errors import BninspectError
from bninspect.inspection import rules
from bninspect.records import (
    Array,
    Checkpoint,
    Comparison,
    Counterpart,
    Export,
    Finding,
    LayerReport,
    LayerStatus,
    Verified,
    codec,
    verdict,
)
from bninspect.records.graph import Network
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.keras.tracing import TracedCall
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import selection, verify_task


def against(arguments: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None]) -> Verified:
    """Hold the model of `arguments["checkpoint"]` against the export of `arguments["export"]`."""
    checkpoint = codec.decode(Checkpoint, arguments["checkpoint"], arrays)
    export = codec.decode(Checkpoint, arguments["export"], arrays)
    settings = codec.decode(Settings, arguments["settings"])
    return compare(checkpoint, export, settings, progress)


def compare(
    checkpoint: Checkpoint, export: Checkpoint, settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Verified:
    """Run a model and an export of it on the same input, and account for every batch norm of the model.

    Raises:
        UsageError: the export is of a format that holds no graph, or the two do not take the same input.
        MissingPackage: no framework that could run the model is installed.
        UnreadableFile: one of the files is no longer what was read.
    """
    settings = selection.for_model(settings, checkpoint.path)
    ran = running.exported(export, settings)
    network = ran.network
    trial = verify_task.Trial(checkpoint, settings)
    progress(f"{checkpoint.path}: running the model")
    found = source.observed(checkpoint, trial.how, ran.data, trial.begin)
    verified = trial.verdict(found.run)
    progress(f"{export.path}: looking for the batch norms of {checkpoint.path}")
    held = _held(found, network, ran, checkpoint)
    own = verified.model.layers
    layers = tuple(_joined(layer, held.counterparts.get(layer.name), found, settings) for layer in own)
    title, environment = (ran.session.title, ran.session.environment) if ran.session else (None, {})
    one = Export(
        path=export.path,
        sha256=export.sha256,
        bytes=export.bytes,
        format=export.format,
        writer=export.writer,
        runtime=title,
        same=held.same,
        outputs=held.ends.compared,
        notes=(*export.notes, *ran.notes, *held.notes),
    )
    # The outputs have no status but this finding: to choose some rules, --select, is not to do without them.
    counted = replace(settings, select=())
    every = (*verified.model.findings, *rules.judged(_findings(one, layers, held.ends.lost), "", counted))
    status = verdict.model_status(layers, every, settings.fail_on, checkpoint.unread)
    model = replace(verified.model, layers=layers, findings=every, against=one, status=status)
    return Verified(model, {**verified.environment, **environment})


@dataclass(frozen=True, eq=False)
class _Ends:
    """What the outputs of the export say."""

    compared: tuple[Comparison, ...] = ()
    lost: tuple[str, ...] = ()
    """Outputs of the model that no output of the export can be, by their shape."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Held:
    """What the export holds of the model."""

    counterparts: Mapping[str, Counterpart]
    same: bool = True
    ends: _Ends = _Ends()
    notes: tuple[str, ...] = ()


def _held(found: SourceRun, network: Network, ran: running.Ran, checkpoint: Checkpoint) -> _Held:
    if found.network is None:
        reason = found.reason or "its source shows only layers that run alone, and not what feeds them"
        return _Held({layer.name: _unknown(reason) for layer in checkpoint.layers})
    layers = {}
    for layer in checkpoint.layers:
        try:
            folding.affine(layer)
        except BninspectError:
            continue
        layers[layer.name] = layer
    norms = pairing.norms(found.network, layers)
    paired = pairing.pair(norms, found.network, network)
    quantised = any(node.kernel is not None and node.kernel.weight_step is not None for node in network.nodes)
    values, fast, notes = running.values(ran, network, [match.node.outputs[0] for match in paired.matches.values()])
    calls = dict(zip(norms, _calls(norms, found), strict=True))
    dtype = _coarsest(network, found.calls)
    ends = _Ends()
    if values is not None and not quantised:
        fast = {one.name: fast[one.name] for one in network.outputs if one.name in fast}
        deployed = ran.session.deployed if ran.session else None
        fast_type = max((dtype, *([deployed.dtype] if deployed else [])), key=lambda one: precision(one).unit)
        ends = _ends(found, values, fast, len(norms), (dtype, fast_type), loud=ran.loud)
        if deployed is not None:
            part = 100 * outputs.allowed(len(norms), fast_type)
            hides = f"its outputs may then be off by {part:.2g} % of their largest, and what is smaller does not show"
            notes = (*notes, f"by default it computes in {graph_run.said(deployed)}: {hides}")
    called = {norm: call for norm, call in calls.items() if call is not None}
    seen = Seen(called, values, quantised, dtype, ran.loud, ends.compared, ran.reason)
    judged, same = verdicts.judge(norms, paired, found.network, network, seen)
    if quantised:
        notes = (*notes, "its weights are quantised: they are held against half a step, its outputs are not compared")
    # One number to multiply with and one to add are what models do to their input, for instance.
    extra = [node.name for node in paired.pairs if node.kernel is not None and node.kernel.outputs > 1]
    if extra:
        others = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        notes = (*notes, f"it also holds {printable(extra[0])}{others}, which no batch norm of the model explains")
    return _Held(verdicts.by_layer(judged), same, ends if same else _Ends(), (*notes, *(ends.notes if same else ())))


def _coarsest(network: Network, calls: Sequence[TracedCall]) -> str:
    """Return the coarsest type that the export's numbers, or what the source's layers return, are rounded to."""
    kernels = {node.kernel.dtype for node in network.nodes if node.kernel is not None}
    return max((*kernels, *(call.dtype for call in calls), "float32"), key=lambda one: precision(one).unit)


def _calls(norms: Sequence[pairing.SourceNorm], found: SourceRun) -> list[TracedCall | None]:
    """Return what each call of a batch norm returned, in the order in which both were seen."""
    waiting: dict[str, list[TracedCall]] = {}
    for call in found.calls:
        waiting.setdefault(call.layer, []).append(call)
    return [waiting[norm.layer.name].pop(0) if waiting.get(norm.layer.name) else None for norm in norms]


def _ends(
    found: SourceRun,
    values: Mapping[str, Array],
    fast: Mapping[str, Array],
    depth: int,
    types: tuple[str, str],
    *,
    loud: bool,
) -> _Ends:
    """Compare the outputs of the two models, as the runtime computes them for us and for everybody, in two types."""
    own = [one for one in found.outputs if one.dtype.kind == "f" and one.size]
    belong = outputs.paired(own, {name: values[name] for name in fast}, depth, types[0], loud=loud)
    compared: list[Comparison] = []
    for place, name in sorted(belong.items()):
        for observed, every, dtype in zip(("model output", "optimised output"), (values, fast), types, strict=True):
            expected = own[place].astype(np.float64)
            one = outputs.ends(expected, every[name], depth, observed=observed, dtype=dtype, loud=loud)
            if one is not None:
                compared.append(one)
    lost = tuple(f"{place} of shape {one.shape}" for place, one in enumerate(own) if place not in belong)
    notes: tuple[str, ...] = ()
    if not own:
        notes = ("the outputs of the model were not compared: they cannot be seen as floats",)
    elif len(own) < len(found.outputs):
        counted = f"{len(found.outputs) - len(own)} of {len(found.outputs)}"
        notes = (f"{counted} outputs of the model were not compared: they hold no floats",)
    order = [list(fast).index(belong[place]) for place in sorted(belong)]
    if order != sorted(order):
        notes = (*notes, f"it returns the outputs of the model in another order: {', '.join(map(str, order))}")
    return _Ends(tuple(compared), lost, notes)


def _unknown(reason: str) -> Counterpart:
    return Counterpart(LayerStatus.UNVERIFIED, None, "", sentence=reason)


def _joined(layer: LayerReport, counterpart: Counterpart | None, found: SourceRun, settings: Settings) -> LayerReport:
    """Return a layer's own report with what became of it in the export."""
    if counterpart is None:
        counterpart = _unknown(f"it was not seen in its source: {layer.reason or found.reason or 'it never ran'}")
    every = (*layer.findings, *rules.judged(findings.of_layer(counterpart), layer.name, settings))
    return verdict.joined(replace(layer, findings=every), counterpart)


def _findings(export: Export, layers: Sequence[LayerReport], lost: Sequence[str]) -> tuple[Finding, ...]:
    """Return what is to be said of the export as a whole: BN410 and BN411."""
    if not export.same:
        return (findings.other_model(export.path, len(layers)),)
    if lost:
        return (findings.missing_output(lost),)
    wrong = [one for one in export.outputs if not one.agrees]
    right = all(one.counterpart is not None and one.counterpart.status is LayerStatus.VERIFIED for one in layers)
    return tuple(findings.other_output(output, layers_right=right) for output in wrong[:1])
