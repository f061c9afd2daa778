"""A Keras model as an export: loaded once, each value called by its number in a trace, run again on any input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bninspect.arithmetic.norm_kernel import with_norms
from bninspect.errors import RuntimeFailure
from bninspect.records import Array, Checkpoint, Form
from bninspect.runtimes import loading
from bninspect.runtimes.keras import hook, run, symbolic_input, tracing
from bninspect.runtimes.keras.framework import Framework
from bninspect.runtimes.keras.tracing import Trace
from bninspect.runtimes.runtime import RunSettings, Session, Sink


def opened(start: Callable[[], Framework], checkpoint: Checkpoint, settings: RunSettings) -> Session:
    """Have a framework load the file itself, and follow one forward pass, which shows what feeds what.

    Raises:
        UnreadableFile: the file is no longer what was read.
        UsageError: the settings do not fit the model's inputs.
        RuntimeFailure: the framework cannot load or run the model, or nobody can see what it calls.
    """
    framework = start()
    loading.same_bytes(checkpoint)
    trace = Trace()
    with run.session(framework):
        model, _ = run.loaded(framework, checkpoint, settings)
        with tracing.traced(trace, framework.keras):
            ran = run.observe_loaded(framework, model, checkpoint, settings, lambda: _begun(trace))
    if not trace.outputs:
        raise RuntimeFailure("what the model computes cannot be seen", why="no call of a layer of it was")
    taken = symbolic_input.taken_by(model, framework.keras.layers.Embedding, checkpoint.architecture)

    def replay(data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        with (
            loading.failing_as(f"{framework.title} cannot run the model"),
            loading.quiet(),
            tracing.traced(trace, framework.keras),
        ):
            return trace.replay(_ordered(model, taken, data), given, names, inside=True)

    network = with_norms(trace.network(), checkpoint.layers)
    outputs = tuple(output.name for output in network.outputs)
    return Session(
        title=framework.title,
        inputs=taken,
        outputs=outputs,
        compute=lambda data, names: replay(data, {}, names),
        optimised=lambda data: replay(data, {}, outputs),
        form=Form.UNKNOWN,
        environment=ran.environment,
        replay=replay,
        network=network,
    )


def _begun(trace: Trace) -> Sink:
    trace.begin()
    return trace.see


def _ordered(model: Any, taken: Sequence[Any], data: Mapping[str, Array]) -> list[Array]:
    """Return the input as the model's own call has it, one array after the other."""
    import tensorflow as tf

    return [hook.widened(tensor) for tensor in tf.nest.flatten(symbolic_input.fed(model, taken, data))]
