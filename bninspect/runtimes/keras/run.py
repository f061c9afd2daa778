"""A run of a Keras model, as a straight line: load, pair up the layers, one forward pass, every layer alone."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bninspect.environment import installed
from bninspect.errors import RuntimeFailure
from bninspect.records import Array, BatchNorm, Checkpoint, Evidence, Run, Statistics
from bninspect.runtimes import inputs, loading, probe
from bninspect.runtimes.keras import hook, matching, symbolic_input, training
from bninspect.runtimes.keras.framework import Framework
from bninspect.runtimes.keras.hook import Recorder
from bninspect.runtimes.runtime import Begin, Input, RunSettings


def observe_model(start: Callable[[], Framework], checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Have a framework load the file itself and run it; observe every batch norm. Raises as `Runtime.observe`."""
    framework = start()
    loading.same_bytes(checkpoint)
    with session(framework):
        if settings.training:  # what is random in a training step, such as dropout, is the same every time
            framework.keras.utils.set_random_seed(settings.seed)
        model, notes = loaded(framework, checkpoint, settings)
        run = observe_loaded(framework, model, checkpoint, settings, begin)
        return replace(run, notes=notes + run.notes)


def observe_loaded(
    framework: Framework, model: Any, checkpoint: Checkpoint, settings: RunSettings, begin: Begin
) -> Run:
    """Run a model that is in this process already; observe every batch norm in it and alone. It is left as it was.

    Raises:
        UsageError: the settings do not fit the model's inputs.
        RuntimeFailure: the framework cannot run the model.
    """
    found = matching.batch_norms(model, framework.batch_norm)
    names = matching.match(checkpoint.layers, found)
    ran = _run(framework, model, names, checkpoint, settings, begin)
    recorder, notes = ran.recorder, ran.notes
    strangers = recorder.strangers | {id(one.layer): one.path for one in found if id(one.layer) not in names}
    unobserved = _unobserved(checkpoint.layers, frozenset(names.values()), recorder, "in-model")
    for one in found:
        if id(one.layer) in names and (failure := recorder.watch("probed", partial(_probe, one.layer))):
            notes += (f"{names[id(one.layer)]} does not run alone: {loading.reason(failure)}",)
    unreplayed: Mapping[str, str] = {}
    if settings.training:
        failed = training.replay(model, ran.taken, settings, ran.attempt, recorder)
        missing = _unobserved(checkpoint.layers, frozenset(names.values()), recorder, "training")
        unreplayed = {name: failed or reason for name, reason in missing.items()} | recorder.unreplayed
        for one in found:
            if id(one.layer) in names and (failure := training.probed(framework, one.layer, settings.seed, recorder)):
                notes += (f"{names[id(one.layer)]} does not train alone: {loading.reason(failure)}",)
    return Run(
        framework.title,
        Evidence.MODEL,
        unobserved=unobserved,
        unreplayed=unreplayed,
        unlisted=tuple(sorted(strangers.values())),
        notes=notes,
        environment=surroundings(),
    )


def observe_layers(start: Callable[[], Framework], checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Run a framework's own batch-norm layer, alone, on the parameters of each stored layer.

    `Run.unobserved` names the layers that could not be run even so.
    """
    framework, sink = start(), begin()
    unobserved: dict[str, str] = {}
    unreplayed: dict[str, str] = {}
    with session(framework):
        for stored in checkpoint.layers:
            try:
                layer = _alone(framework, stored)
            except RuntimeFailure as refusal:
                unobserved[stored.name] = str(refusal)
                continue
            recorder = Recorder(framework, {id(layer): stored.name}, sink)
            if failure := recorder.watch("probed", partial(_probe, layer)):
                unobserved[stored.name] = f"{framework.title} cannot run it: {loading.reason(failure)}"
            elif settings.training and (failure := training.probed(framework, layer, settings.seed, recorder)):
                unreplayed[stored.name] = f"{framework.title} cannot train it: {loading.reason(failure)}"
    return Run(
        framework.title, Evidence.LAYER, unobserved=unobserved, unreplayed=unreplayed, environment=surroundings()
    )


@contextmanager
def session(framework: Framework) -> Iterator[None]:
    """Leave nothing of one model behind for the next."""
    try:
        with loading.quiet():
            yield
    finally:
        framework.keras.backend.clear_session()


def loaded(framework: Framework, checkpoint: Checkpoint, settings: RunSettings) -> tuple[Any, tuple[str, ...]]:
    """Return the model of a file, loaded by the framework itself, and notes. Raises RuntimeFailure."""
    with _naming_the_option(), loading.failing_as(f"{framework.title} cannot load the file"):
        for module in settings.modules:
            importlib.import_module(module)
        return framework.load(checkpoint, settings)


_UNREGISTERED = re.compile(r"Could not locate (?:class|function)|Unknown (?:layer|object|activation function)\b")


@contextmanager
def _naming_the_option() -> Iterator[None]:
    """Say how a class is registered that Keras does not know."""
    try:
        yield
    except RuntimeFailure as error:
        if _UNREGISTERED.search(error.why):
            why = f"{error.why}; --trust --import MODULE imports the module that registers it"
            raise RuntimeFailure(error.what, why=why, hint=error.hint) from error
        raise


@dataclass(frozen=True)
class _Ran:
    """A forward pass of a model."""

    recorder: Recorder
    taken: Sequence[Input]
    """The inputs of the model."""
    attempt: int
    """At which it accepted the size of its input."""
    notes: tuple[str, ...]


def _run(
    framework: Framework,
    model: Any,
    names: Mapping[int, str],
    checkpoint: Checkpoint,
    settings: RunSettings,
    begin: Begin,
) -> _Ran:
    """Run the model once, on the first size of input that it accepts."""
    taken = symbolic_input.taken_by(model, framework.keras.layers.Embedding, checkpoint.architecture)
    ours = settings.input is None and any(one.is_open for one in taken)
    failures = []
    for attempt in range(inputs.ATTEMPTS if ours else 1):
        data, notes = inputs.prepared(taken, settings, attempt)
        recorder = Recorder(framework, names, begin())
        failure = recorder.watch("in-model", partial(forward, model, taken, data))
        if failure is None:
            return _Ran(recorder, taken, attempt, notes)
        failures.append(failure)
    why = loading.reason(failures[0]) + inputs.other_shape(taken, settings)
    raise RuntimeFailure(f"{framework.title} cannot run the model", why=why) from failures[0]


def forward(model: Any, taken: Sequence[Input], data: Mapping[str, Array]) -> None:
    """Run a model once, in inference mode."""
    model(symbolic_input.fed(model, taken, data), training=False)


def _probe(layer: Any) -> None:
    """Run a built layer on the input that tries every one of its channels."""
    import tensorflow as tf

    rank = layer.input_spec.ndim
    axis = hook.axes(layer, rank)
    for points in probe.points(hook.parameters(layer), layer.epsilon, axis, rank, layer.compute_dtype):
        # By way of the layer itself: it casts its input and chooses its kernel as it does in the model.
        layer(tf.cast(points, layer.compute_dtype), training=False)


def _unobserved(
    stored: Iterable[BatchNorm], matched: frozenset[str], recorder: Recorder, observed: str
) -> Mapping[str, str]:
    """Return why the model's forward pass shows nothing of some layers."""
    missing = [layer.name for layer in stored if (observed, layer.name) not in recorder.reached]
    return {
        name: "no batch-norm layer of the loaded model is this one"
        if name not in matched
        else "it runs inside a graph, where its input and output cannot be seen"
        if name in recorder.hidden
        else "the forward pass does not reach it"
        for name in missing
    }


def _alone(framework: Framework, stored: BatchNorm) -> Any:
    """Return the framework's own layer with the parameters that a file holds. Raises RuntimeFailure if it cannot be."""
    if stored.statistics is Statistics.FOLDED:
        raise RuntimeFailure("its mean and variance are folded into gamma and beta, which Keras has no layer for")
    if stored.statistics is not Statistics.MOVING:
        raise RuntimeFailure(f"it normalises by the statistics of each {stored.statistics}")
    if stored.moving_mean is None or stored.moving_variance is None:
        raise RuntimeFailure("the file does not hold its moving_mean and moving_variance")
    if stored.undecided is not None:
        raise RuntimeFailure("the file does not say whether one of its arrays is gamma or beta")
    if stored.epsilon is None:
        raise RuntimeFailure("the file does not state its epsilon")
    axis = stored.axis or (-1,)
    if len(axis) == 1:
        # Where the file does not say, an image: that is what most batch norms are for.
        channels, rank = (stored.channels,), 4 if axis[0] < 0 else max(2, axis[0] + 1)
    else:
        channels, rank = stored.moving_mean.shape, stored.moving_mean.ndim
    shape: list[int | None] = [None] * rank
    for one in axis:
        shape[one] = channels[one if len(axis) > 1 else 0]
    with loading.failing_as(f"{framework.title} cannot build it"):
        layer = framework.layer(
            axis=axis,
            epsilon=stored.epsilon,
            **({} if stored.momentum is None else {"momentum": stored.momentum}),
            scale=stored.gamma is not None,
            center=stored.beta is not None,
            dtype="float32" if "+" in stored.dtype else stored.dtype,
        )
        layer.build(tuple(shape))
        layer.set_weights(list(stored.arrays.values()))
    return layer


def surroundings() -> Mapping[str, Any]:
    """Return what decides about the last bits of the kernels' results."""
    import tensorflow as tf
    from tensorflow.python.util import _pywrap_util_port as build

    devices = tf.config.list_logical_devices()
    return {
        **{name: installed(name) for name in ("tensorflow", "keras", "tf_keras")},
        # Whether this build has oneDNN and the environment leaves it on; there is no public way to ask.
        "onednn": bool(build.IsMklEnabled()),
        "device": "GPU" if any(device.device_type == "GPU" for device in devices) else "CPU",
    }
