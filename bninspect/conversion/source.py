"""The source of an export, run once: what its batch norms returned, what feeds them, what came out of the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bninspect import runtimes
from bninspect.errors import BninspectError, UsageError
from bninspect.records import Array, Checkpoint, Observation, Run
from bninspect.records.graph import Network
from bninspect.runtimes import loading
from bninspect.runtimes.keras import tracing
from bninspect.runtimes.keras.tracing import Trace, TracedCall, called
from bninspect.runtimes.runtime import Begin, RunSettings, Runtime

_KERASES = {runtimes.KERAS.name: "keras", runtimes.TF_KERAS.name: "tf_keras"}


@dataclass(frozen=True, eq=False)
class SourceRun:
    """A source that has been run."""

    run: Run
    network: Network | None
    reason: str = ""
    """Why there is no network."""
    calls: tuple[TracedCall, ...] = ()
    """What its batch norms returned in the model, in the order of the calls."""
    outputs: tuple[Array, ...] = ()
    """What the model returned; empty if nobody could see it."""


def observed(checkpoint: Checkpoint, settings: RunSettings, data: Mapping[str, Array], begin: Begin) -> SourceRun:
    """Run a source on the given input, and see what feeds what.

    Args:
        checkpoint: of the source.
        settings: how to run it.
        data: the input that the export gets, by the names that it has there. Inputs of the source that are called the
            same get the same, else they go by their order; the source may want its channels at the other end.
        begin: starts an attempt, as for `runtimes.run`.

    Raises:
        UsageError: the source takes no such input, in whatever order of axes.
        MissingPackage, UnreadableFile: as `runtimes.run`.
    """
    refused: list[UsageError] = []
    for named in _layouts(data):
        try:
            return _observed(checkpoint, replace(settings, input=named, input_shapes={}), tuple(named.values()), begin)
        except UsageError as error:
            refused.append(error)
    raise refused[-1]


def _layouts(data: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Yield the input by name and by position: as it is, with its channels moved to the end, and to the front."""
    for source, target in ((1, 1), (1, -1), (-1, 1)):
        moved = [np.moveaxis(one, source, target) if one.ndim > 2 else one for one in data.values()]
        shapes = [one.shape for one in moved]
        if source == target or shapes != [one.shape for one in data.values()]:
            if len(moved) > 1:
                yield {_plain(name): one for name, one in zip(data, moved, strict=True)}
            yield {f"arr_{place}": one for place, one in enumerate(moved)}


def _plain(name: str) -> str:
    """Return what the user called an input: converters put things around it, `0:serving_default_image:0`."""
    return re.sub(r"^(\d+:)?(serving_default_)?|:\d+$", "", name)


def _observed(checkpoint: Checkpoint, settings: RunSettings, arrays: Sequence[Array], begin: Begin) -> SourceRun:
    chosen = runtimes.choose(checkpoint, settings.runtime)
    packages = [_KERASES[one.name] for one in chosen if one.name in _KERASES]
    if chosen[0].name in _KERASES:
        return _traced(packages, checkpoint, settings, begin)
    kept: list[TracedCall] = []
    run = runtimes.run(checkpoint, settings, lambda: _keeping(kept, begin()))
    found = SourceRun(run, None, calls=tuple(kept))
    try:
        network = _read_network(chosen[0], checkpoint, settings)
        return replace(found, network=network, outputs=_outputs(chosen[0], checkpoint, settings, arrays))
    except BninspectError as error:
        return replace(found, reason=f"what feeds its batch norms cannot be read: {error}")


def _traced(packages: Sequence[str], checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> SourceRun:
    with ExitStack() as stack:
        trace = stack.enter_context(tracing.traced(*(loading.framework(package) for package in packages)))

        def start() -> Callable[[Observation], None]:
            trace.begin()
            return _both(trace, begin())

        run = runtimes.run(checkpoint, settings, start)
        return SourceRun(run, trace.network(), calls=tuple(trace.calls), outputs=trace.outputs)


def _both(trace: Trace, sink: Callable[[Observation], None]) -> Callable[[Observation], None]:
    def see(observation: Observation) -> None:
        trace.see(observation)
        sink(observation)

    return see


def _keeping(kept: list[TracedCall], sink: Callable[[Observation], None]) -> Callable[[Observation], None]:
    kept.clear()

    def see(observation: Observation) -> None:
        if observation.observed == "in-model":
            kept.append(called(observation))
        sink(observation)

    return see


def _read_network(runtime: Runtime, checkpoint: Checkpoint, settings: RunSettings) -> Network:
    from bninspect import formats

    path = Path(checkpoint.path)
    if runtime is runtimes.GRAPHS:
        from bninspect.formats.tensorflow import kernels

        return kernels.read_network(path, settings.signature, settings.tag)
    session = runtime.open(checkpoint, settings) if runtime.open is not None else None
    return session.network if session is not None and session.network is not None else formats.read_network(path)


def _outputs(
    runtime: Runtime, checkpoint: Checkpoint, settings: RunSettings, arrays: Sequence[Array]
) -> tuple[Array, ...]:
    """Return what the source returns, if its runtime can be asked; nothing if not."""
    if runtime.open is not None:
        session = runtime.open(checkpoint, settings)
        names = [one.name for one in session.inputs] or [""]
        data = dict(zip(names, arrays, strict=True))
        values = session.compute(data, session.outputs)
        return tuple(values[name] for name in session.outputs)
    return _of_saved_model(checkpoint, settings, arrays) if len(arrays) == 1 else ()


def _of_saved_model(checkpoint: Checkpoint, settings: RunSettings, arrays: Sequence[Array]) -> tuple[Array, ...]:
    import tensorflow as tf

    try:
        with loading.quiet():
            loaded: Any = tf.saved_model.load(checkpoint.path)
            signatures: Mapping[str, Any] = loaded.signatures
            call = signatures[settings.signature or next(iter(signatures))]
            (name,) = call.structured_input_signature[1]
            values = call(**{name: tf.constant(arrays[0])})
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - frameworks raise anything; the outputs are then not compared, which is said
        return ()
    return tuple(np.asarray(values[key]) for key in sorted(values))
