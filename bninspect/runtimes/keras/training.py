"""One training step of a loaded model, without its gradients: what its batch norms normalise with and keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from bninspect.runtimes import inputs, loading, probe
from bninspect.runtimes.keras import hook, symbolic_input
from bninspect.runtimes.keras.framework import Framework
from bninspect.runtimes.keras.hook import Recorder
from bninspect.runtimes.runtime import Input, RunSettings

BATCH = 8
"""Samples in the random input, where the model leaves the number open."""


def replay(model: Any, taken: Sequence[Input], settings: RunSettings, attempt: int, recorder: Recorder) -> str:
    """Run the whole model on a batch with training=True, and put everything back that this changes.

    Args:
        model: loaded.
        taken: its inputs.
        settings: with the user's input, shapes and seed.
        attempt: for which the model accepted its input at inference.
        recorder: observes the batch norms.

    Returns:
        Why the model did not run to its end; empty if it did.
    """
    sizes = (BATCH, settings.batch) if settings.input is None and not settings.input_shapes else (BATCH,)
    failures: list[Exception] = []
    for batch in sizes:
        data, _ = inputs.prepared(taken, replace(settings, batch=batch), attempt)
        with _unchanged(model):
            failure = recorder.watch("training", partial(_call, model, symbolic_input.fed(model, taken, data)))
        if failure is None:
            return ""
        failures.append(failure)
    return f"the model does not run with training=True: {loading.reason(failures[0])}"


def _call(layer: Any, x: Any) -> None:
    layer(x, training=True)


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Put all variables of a model back afterwards: not only batch norms change theirs when they train."""
    before = [(variable, variable.numpy()) for variable in model.variables]
    try:
        yield
    finally:
        for variable, values in before:
            variable.assign(values)


def probed(framework: Framework, layer: Any, seed: int, recorder: Recorder) -> Exception | None:
    """Train one layer alone, on a small batch and on one value per channel; return with what it failed, if it did."""
    import tensorflow as tf

    rank = layer.input_spec.ndim
    axis = hook.axes(layer, rank)
    for single in (False, True):
        if single and not framework.training(layer, False).single:  # noqa: FBT003 - no mask
            continue
        batch = probe.batch(
            hook.parameters(layer), layer.epsilon, axis, rank, layer.compute_dtype, seed=seed, single=single
        )
        failure = recorder.watch("training-probed", partial(_call, layer, tf.cast(batch, layer.compute_dtype)))
        if failure is not None:
            return failure
    return None
