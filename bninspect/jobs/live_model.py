"""A model that lives in this process: verified as the file that it becomes or, where that cannot be, here.

Saving comes first, because what is verified then is what will be deployed: the framework loads it anew, in a process of
its own that may crash. A model with classes or functions of one's own is run here instead, where these are known; so is
one that cannot be saved. The report says why.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bninspect.errors import BninspectError, UsageError
from bninspect.jobs import pipeline
from bninspect.jobs.load import load
from bninspect.records import BatchNorm, Checkpoint, Report, Verified, outcome
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.verdicts import selection

if TYPE_CHECKING:
    from bninspect.runtimes.keras.framework import Framework
    from bninspect.runtimes.keras.matching import LoadedNorm

    _OfFile = Callable[[Path, Settings], Report]
    _InThisProcess = Callable[[Framework, Any, Checkpoint, Settings], Verified]

_PACKAGES = ("keras", "tf_keras")
_NAMELESS = " ''"


def verify(model: Any, settings: Settings) -> Report:
    """Recompute every batch norm of a live Keras 3 or tf_keras model by hand, and compare with what it computes.

    The model is left as it was.

    Args:
        model: a built model, of any class.
        settings: as for a file.

    Raises:
        UsageError: it is not a model of either framework, or it is not built.
    """
    return _judged(model, settings, "verify", pipeline.verify, _observed)


def drift(model: Any, settings: Settings) -> Report:
    """Hold the statistics of a live Keras 3 or tf_keras model against those of data. Args, Raises: as `verify`."""
    return _judged(model, settings, "drift", pipeline.drift, _run_over_data)


def _judged(model: Any, settings: Settings, command: str, of_file: _OfFile, in_this_process: _InThisProcess) -> Report:
    package = _package(model)
    _require_built(model)
    name = printable(str(model.name))
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        path = Path(folder) / "model.keras"
        why = _not_saved(model, path) or _holds_code(path)
        if why:
            report = _here(package, model, name, why, settings, command, in_this_process)
        else:
            report = of_file(path, settings)
    return replace(report, models=tuple(replace(model_report, path=name) for model_report in report.models))


def _package(model: Any) -> str:
    for package in _PACKAGES:
        module = sys.modules.get(package)
        if module is not None and isinstance(model, module.Model):
            return package
    said = f"{type(model).__name__} is neither a path nor a model of Keras 3 or tf_keras"
    raise UsageError(said, hint=to_a_file(model))


def to_a_file(model: Any) -> str:
    """Return how an object becomes a file that is taken; empty if it is not a model."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        exported = "torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))"
        return f"torch.export.save({exported}, 'model.pt2'), and name that file"
    return "model.save('model.keras'), and name that file" if hasattr(model, "save") else ""


def _require_built(model: Any) -> None:
    from bninspect.runtimes.keras import matching

    # A batch norm that was never built has no parameters: it would be missing from the verdict.
    pending = [layer.name for layer in matching.layers(model) if hasattr(layer, "moving_variance") and not layer.built]
    if pending or not model.built:
        raise UsageError(
            f"the model {printable(str(model.name))} is not built",
            why=f"{printable(pending[0])} has no parameters yet" if pending else "it has no parameters yet",
            hint="call it on an input once",
        )


def _not_saved(model: Any, path: Path) -> str:
    """Save the model; return why it could not be saved, or nothing."""
    from bninspect.runtimes import loading

    try:
        with loading.quiet():
            model.save(path)
    except Exception as error:  # noqa: BLE001 - whatever a layer's get_config raises
        return f"it cannot be saved: {loading.reason(error)}"
    return ""


def _holds_code(path: Path) -> str:
    try:
        code = load(path).code
    except BninspectError:
        return ""  # It will be said again where it belongs: in the report.
    return f"{printable(code[0].removesuffix(_NAMELESS))} is known in this process alone" if code else ""


def _here(
    package: str, model: Any, name: str, why: str, settings: Settings, command: str, judge: _InThisProcess
) -> Report:
    try:
        verified = _run(package, model, name, settings, judge)
    except UsageError:
        raise
    except BninspectError as error:
        verified = Verified(outcome.broken(name, error), {})
    noted = replace(verified.model, notes=(f"run in this process: {why}", *verified.model.notes))
    running = verified.environment
    return outcome.report(command, [noted], options={}, allow_empty=settings.allow_empty, running=running)


def _run(package: str, model: Any, name: str, settings: Settings, judge: _InThisProcess) -> Verified:
    from bninspect.runtimes import loading
    from bninspect.runtimes.keras import keras3, matching, tf_keras

    framework = {"keras": keras3, "tf_keras": tf_keras}[package].framework()
    layers = tuple(_stored(norm) for norm in matching.batch_norms(model, framework.batch_norm))
    checkpoint = Checkpoint(name, "live", framework.title, layers, architecture=_built_for(model))
    checkpoint = selection.complete(checkpoint, settings)
    if not any(selection.wanted(layer.name, settings) for layer in layers):
        raise UsageError("no layer fits the given patterns", why=f"the first one is {printable(layers[0].name)}")

    with loading.quiet(), _unchanged(model):
        return judge(framework, model, checkpoint, settings)


def _observed(framework: Framework, model: Any, checkpoint: Checkpoint, settings: Settings) -> Verified:
    from bninspect.runtimes.keras import run as observing
    from bninspect.verdicts import verify_task

    trial = verify_task.Trial(checkpoint, settings)
    return trial.verdict(observing.observe_loaded(framework, model, checkpoint, trial.how, trial.begin))


def _run_over_data(framework: Framework, model: Any, checkpoint: Checkpoint, settings: Settings) -> Verified:
    from bninspect.runtimes.keras import stream
    from bninspect.statistics.drift import drift_stream

    return drift_stream(checkpoint, stream.of_model(framework, model, checkpoint), settings)


def _stored(one: LoadedNorm) -> BatchNorm:
    """Return a live layer as a reader would find it in a file."""
    layer, arrays = one.layer, dict[str, Any](one.parameters)
    return BatchNorm(
        one.path,
        **arrays,
        epsilon=float(layer.epsilon),
        momentum=float(layer.momentum),
        axis=tuple(layer.axis) if isinstance(layer.axis, (list, tuple)) else (int(layer.axis),),
        scale=bool(layer.scale),
        center=bool(layer.center),
        dtype=str(layer.variable_dtype),
        class_name=type(layer).__name__,
        epsilon_source="model",
    )


def _built_for(model: Any) -> str | None:
    """Return what a subclassed model says of its input, in the words of a `.keras` file."""
    try:
        return json.dumps({"build_config": model.get_build_config()})
    except Exception:  # noqa: BLE001 - an answer of another kind is not an answer; then the input must be given
        return None


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Put back what a forward pass moves: the states of stateful layers, counters of custom ones."""
    variables = tuple(_variables(model))
    before = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            if variable.numpy().tobytes() != value.tobytes():
                variable.assign(value)


def _variables(model: Any) -> Iterator[Any]:
    import tensorflow as tf

    from bninspect.runtimes.keras import matching

    yield from model.variables
    for layer in matching.layers(model):
        if getattr(layer, "stateful", False):  # Neither framework counts these states among the variables.
            yield from (state for state in tf.nest.flatten(getattr(layer, "states", None)) if state is not None)
