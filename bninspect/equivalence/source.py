"""The source of an export, run once: what its batch norms returned, what feeds them, what came out of the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from bninspect import runtimes
from bninspect.equivalence.evidence.replay import Replay
from bninspect.errors import BninspectError, UsageError
from bninspect.records import Array, Checkpoint, Evidence, Observation, Run
from bninspect.records.graph import Network, Value
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.keras import tracing
from bninspect.runtimes.keras.tracing import Trace
from bninspect.runtimes.runtime import Begin, RunSettings, Runtime

_KERASES = {runtimes.KERAS.name: "keras", runtimes.TF_KERAS.name: "tf_keras"}


_SHAPELESS = "torchscript"
"""The format whose files do not say what shapes they take: only running one tells which layout it is for."""


@dataclass(frozen=True, eq=False)
class SourceRun:
    """A source that has been run."""

    run: Run
    network: Network | None
    reason: str = ""
    """Why there is no network."""
    outputs: tuple[Array, ...] = ()
    """What the model returned; empty if nobody could see it."""
    replay: Replay | None = None
    """Runs it again, on other input or with values on the way given; None where nothing can."""
    forces: bool = True
    """Whether values on the way can be given."""
    data: tuple[Array, ...] = ()
    """What it was given, in the order of its inputs."""
    outlines: Mapping[str, Value] = field(default_factory=dict)
    """Shape and type of values on the way, by label, for inputs of these shapes; of what is missing nobody knows it."""


def observed(
    checkpoint: Checkpoint, settings: RunSettings, data: Mapping[str, Array] | None, begin: Begin
) -> SourceRun:
    """Run a source on the given input, and see what feeds what.

    Args:
        checkpoint: of the source.
        settings: how to run it.
        data: the input that the export gets, by the names that it has there. Inputs of the source that are called the
            same get the same, else they go by their order; the source may want its channels at the other end. None
            where the export does not say what it takes: then the source gets what it takes itself.
        begin: starts an attempt, as for `runtimes.run`.

    Raises:
        UsageError: the source takes no such input, in whatever order of axes.
        MissingPackage, UnreadableFile: as `runtimes.run`.
    """
    if data is None:
        return _observed(checkpoint, settings, (), begin)
    refused: list[UsageError] = []
    failed: list[SourceRun] = []
    for named in _layouts(data):
        try:
            how = replace(settings, input=named, input_shapes={})
            found = _observed(checkpoint, how, tuple(named.values()), begin)
        except UsageError as error:
            refused.append(error)
            continue
        if found.run.evidence is Evidence.MODEL or checkpoint.format != _SHAPELESS:
            return found
        failed.append(found)
    if failed:
        return failed[0]
    if settings.input is not None:
        raise refused[-1]
    raise UsageError(
        "the export takes another input than the model",
        why=refused[0].what,
        hint="name an export of this model, or the size that both take: --input-shape, --input",
    )


def _layouts(data: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Yield the input by name and by position, in each layout."""
    for moved in layouts(tuple(data.values())):
        if len(moved) > 1:
            yield {_plain(name): one for name, one in zip(data, moved, strict=True)}
        yield {f"arr_{place}": one for place, one in enumerate(moved)}


def layouts(arrays: Sequence[Array]) -> Iterator[tuple[Array, ...]]:
    """Yield input as it is, with its channels moved to the end, and to the front."""
    for source, target in ((1, 1), (1, -1), (-1, 1)):
        moved = tuple(np.moveaxis(one, source, target) if one.ndim > 2 else one for one in arrays)
        if source == target or any(one.shape != other.shape for one, other in zip(moved, arrays, strict=True)):
            yield moved


def _plain(name: str) -> str:
    """Return what the user called an input: converters put things around it, `0:serving_default_image:0`."""
    return re.sub(r"^(\d+:)?(serving_default_)?|:\d+$", "", name)


def _observed(checkpoint: Checkpoint, settings: RunSettings, arrays: Sequence[Array], begin: Begin) -> SourceRun:
    chosen = runtimes.choose(checkpoint, settings.runtime)
    packages = [_KERASES[one.name] for one in chosen if one.name in _KERASES]
    if chosen[0].name in _KERASES:
        return _traced(packages, checkpoint, settings, begin)
    found = SourceRun(runtimes.run(checkpoint, settings, begin), None, data=tuple(arrays))
    try:
        return _opened(found, chosen[0], checkpoint, settings)
    except BninspectError as error:
        return replace(found, reason=f"what feeds its batch norms cannot be read: {error}")


def _opened(found: SourceRun, runtime: Runtime, checkpoint: Checkpoint, settings: RunSettings) -> SourceRun:
    """Return a source with what it computes, ready to be run again."""
    from bninspect import formats

    path = Path(checkpoint.path)
    if checkpoint.format not in runtime.formats:
        return replace(found, reason="its file holds weights alone, and not what feeds what")
    session = runtime.open(checkpoint, settings) if runtime.open is not None else None
    if session is None:
        return replace(found, network=formats.read_network(path))
    network = session.network or formats.read_network(path)
    if not found.data:  # the same that it was run on
        found = replace(found, data=tuple(graph_run.ready(session, settings)[0].values()))
    names = [one.name for one in session.inputs] or [""]
    compute, again = session.compute, session.replay

    def replay(data: Sequence[Array] | None, forced: Mapping[str, Array], wanted: Iterable[str]) -> Mapping[str, Array]:
        given = dict(zip(names, found.data if data is None else data, strict=True))
        # The export may take floats of another type than the model: half of the size, for instance.
        given |= {
            one.name: graph_run.as_taken(given[one.name], one) for one in session.inputs if _is_real(given[one.name])
        }
        asked = list(dict.fromkeys(wanted))
        # TorchScript calls its input by a name of its own.
        own = dict(zip((one.name for one in network.inputs), given.values(), strict=False))
        given = {name: forced.get(one.name, given[name]) for name, one in zip(names, network.inputs, strict=False)}
        forced = {name: array for name, array in forced.items() if name not in own}
        missing = [name for name in asked if name not in own]
        values: Mapping[str, Array] = {}
        if missing:
            values = compute(given, missing) if again is None else again(given, forced, missing)
        return {**{name: own[name] for name in asked if name in own}, **values}

    outputs = replay(None, {}, [one.name for one in network.outputs])
    return replace(
        found,
        network=network,
        outputs=tuple(outputs[one.name] for one in network.outputs if one.name in outputs),
        replay=replay,
        forces=again is not None,
    )


def _is_real(values: Array) -> bool:
    return values.dtype.kind == "f"


def _traced(packages: Sequence[str], checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> SourceRun:
    trace = Trace()
    with tracing.traced(trace, *(loading.framework(package) for package in packages)):

        def start() -> Callable[[Observation], None]:
            trace.begin()
            return _both(trace, begin())

        run = runtimes.run(checkpoint, settings, start)
    if not trace.outputs:
        return SourceRun(run, trace.network())
    return SourceRun(
        run,
        trace.network(),
        outputs=trace.outputs,
        replay=partial(_replayed, trace, packages),
        data=trace.inputs,
        outlines=trace.outlines,
    )


def _replayed(
    trace: Trace,
    packages: Sequence[str],
    data: Sequence[Array] | None,
    forced: Mapping[str, Array],
    wanted: Iterable[str],
) -> Mapping[str, Array]:
    modules = [loading.framework(package) for package in packages]
    with loading.failing_as("the model cannot be run again"), loading.quiet(), tracing.traced(trace, *modules):
        return trace.replay(data, forced, wanted)


def _both(trace: Trace, sink: Callable[[Observation], None]) -> Callable[[Observation], None]:
    def see(observation: Observation) -> None:
        trace.see(observation)
        sink(observation)

    return see
