"""Runtimes: each module has one framework load and run a model, and observes its batch norms.

A new runtime is one new module with the functions of a `Runtime` and one entry in `RUNTIMES`. Importing this package
imports none of them, and none of the frameworks.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec

from bninspect.errors import MissingPackage, RuntimeFailure, UsageError
from bninspect.lazy import later
from bninspect.records import Checkpoint, Run
from bninspect.runtimes.runtime import Begin, RunSettings, Runtime, Sink, Stream
from bninspect.safe_text import nearest, printable

__all__ = ["RUNTIMES", "Begin", "RunSettings", "Runtime", "Sink", "Stream", "choose", "open_stream", "prepare", "run"]

KERAS_FORMATS = ("keras-h5", "keras-zip")
GRAPH_FORMATS = ("saved-model", "tf-graph", "tf-checkpoint")


def _runtime(name: str, title: str, package: str, extra: str, formats: tuple[str, ...], home: str) -> Runtime:
    # What streams data stands beside what observes one run, in a module of its own where that is long.
    streams = f"{__name__}.{home.removesuffix('.run')}.stream" if home.endswith(".run") else f"{__name__}.{home}"
    home = f"{__name__}.{home}"
    return Runtime(
        name=name,
        title=title,
        package=package,
        requires=("tensorflow",) if formats == KERAS_FORMATS else (),
        install=f"pip install 'bninspect[{extra}]'",
        formats=formats,
        observe=later(home, "observe"),
        observe_layers=later(home, "observe_layers"),
        stream=later(streams, "stream") if formats != ("tflite",) else None,
        open=later(f"{__name__}.tensorflow.session" if formats == GRAPH_FORMATS else home, "opened"),
    )


KERAS = _runtime("keras", "Keras 3", "keras", "tensorflow", KERAS_FORMATS, "keras.keras3")
TF_KERAS = _runtime("tf-keras", "tf-keras (Keras 2)", "tf_keras", "tensorflow", KERAS_FORMATS, "keras.tf_keras")
GRAPHS = _runtime(
    "savedmodel", "TensorFlow (SavedModel, graph)", "tensorflow", "tensorflow", GRAPH_FORMATS, "tensorflow.run"
)
TORCH = _runtime("torch", "PyTorch", "torch", "torch", ("torch-export", "torchscript"), "torch.run")

RUNTIMES: tuple[Runtime, ...] = (
    KERAS,
    TF_KERAS,
    GRAPHS,
    _runtime("onnxruntime", "ONNX Runtime", "onnxruntime", "onnx", ("onnx",), "onnxruntime.run"),
    _runtime("openvino", "OpenVINO", "openvino", "openvino", ("openvino",), "openvino"),
    _runtime("ncnn", "ncnn", "ncnn", "ncnn", ("ncnn",), "ncnn"),
    _runtime("litert", "LiteRT", "ai_edge_litert", "litert", ("tflite",), "litert"),
    _runtime("tflite", "TensorFlow Lite", "tensorflow", "tensorflow", ("tflite",), "tensorflow.lite"),
    TORCH,
)


def choose(checkpoint: Checkpoint, forced: str | None = None) -> tuple[Runtime, ...]:
    """Return the installed runtimes to try on a file, the most fitting first.

    TensorFlow runs graphs, Keras 3 what Keras 3 wrote. tf-keras runs what Keras 2 and tf.keras wrote, of which Keras 3
    can load the plainer models. Measured on the files of 12 versions.

    Args:
        checkpoint: what was read from the file.
        forced: name of the only runtime to try.

    Raises:
        UsageError: there is no runtime of that name.
        MissingPackage: none of them is installed.
    """
    if forced is not None:
        candidates = tuple(runtime for runtime in RUNTIMES if runtime.name == forced)
        if not candidates:
            known = [runtime.name for runtime in RUNTIMES]
            near = nearest(forced, known)
            raise UsageError(
                f"there is no runtime {printable(forced)!r}",
                why=f"known are {', '.join(known)}",
                hint=f"did you mean {near}?" if near else "bninspect doctor lists those that work here",
            )
    else:
        candidates = fitting(checkpoint)
    installed = tuple(runtime for runtime in candidates if _is_installed(runtime))
    if not installed:
        raise MissingPackage(
            f"{candidates[0].title} is not installed",
            why=f"it is what runs {printable(checkpoint.path)}",
            hint=candidates[0].install,
        )
    return installed


def fitting(checkpoint: Checkpoint) -> tuple[Runtime, ...]:
    """Return the runtimes that could run a file, installed or not, the most fitting first."""
    if not _is_of_keras(checkpoint):
        return tuple(runtime for runtime in RUNTIMES if checkpoint.format in runtime.formats)
    if checkpoint.format in _OF_TORCH and not checkpoint.writer.startswith("Keras"):
        return (TORCH, KERAS, TF_KERAS)
    major = re.search(r"(\d+)\.", checkpoint.writer)
    if major is None:
        return (KERAS, TF_KERAS)
    return (KERAS,) if int(major[1]) >= 3 else (TF_KERAS, KERAS)


_OF_TORCH = ("torch-state-dict", "safetensors")
"""Formats of weights alone whose layers are PyTorch's, unless their writer says otherwise."""


def _is_of_keras(checkpoint: Checkpoint) -> bool:
    """Return whether a file is of a format that only Keras loads, or of weights alone, whose layers it can run."""
    return not any(checkpoint.format in runtime.formats for runtime in RUNTIMES if runtime.formats != KERAS_FORMATS)


def _is_installed(runtime: Runtime) -> bool:
    return all(find_spec(package) is not None for package in (runtime.package, *runtime.requires))


def prepare() -> None:
    """Import TensorFlow, which takes seconds, in a process that will do nothing but run models.

    Its million objects are kept out of the garbage collector's way, which Keras calls after every model.
    """
    from bninspect.runtimes import loading

    loading.framework("tensorflow")
    gc.freeze()


def run(checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Run a model in the first framework that loads it, or else its batch-norm layers alone.

    `begin` is called anew for every attempt. What earlier sinks were given no longer counts, so observations of
    different attempts are never mixed.

    Args:
        checkpoint: what our reader accepted of the file, which the framework then loads by itself.
        settings: how to run it.
        begin: starts an attempt.

    Returns:
        How it went, for the observations of the last attempt. The evidence is `layer`, with the reason, if the
        framework was not given the model or could not build it.

    Raises:
        UsageError: the settings do not fit the model.
        MissingPackage: no framework for it is installed.
        UnreadableFile: the file is no longer what was read.
    """
    runtimes = choose(checkpoint, settings.runtime)
    reason = _refusal(checkpoint, settings, runtimes)
    notes = []
    if not reason:
        for runtime in runtimes:
            try:
                observed = runtime.observe(checkpoint, settings, begin)
            except RuntimeFailure as failure:
                notes.append(f"{failure.what}: {failure.why}")
            else:
                return replace(observed, notes=(*notes, *observed.notes))
        reason = notes.pop(0)
        notes.extend(_better(checkpoint))
    layers = runtimes[0].observe_layers(checkpoint, settings, begin)
    return replace(layers, reason=reason, notes=(*notes, *layers.notes))


@contextmanager
def open_stream(checkpoint: Checkpoint, settings: RunSettings) -> Iterator[Stream]:
    """Load a model, in the first framework that can, to run data through it.

    Raises:
        RuntimeFailure: no framework may be given the file, or none can load it.
        MissingPackage, UnreadableFile, UsageError: as `run`.
    """
    runtimes = choose(checkpoint, settings.runtime)
    if reason := _refusal(checkpoint, settings, runtimes):
        hint = "name the file of the model that they are of" if reason == _ONLY_WEIGHTS else ""
        raise RuntimeFailure("the model cannot be run", why=reason, hint=hint)
    failures = []
    for runtime in runtimes:
        with ExitStack() as stack:
            try:
                if runtime.stream is None:
                    raise RuntimeFailure("no data can be run through the model", why=f"{runtime.title} cannot do that")
                opened = stack.enter_context(runtime.stream(checkpoint, settings))
            except RuntimeFailure as failure:
                failures.append(failure)
                continue
            said = tuple(f"{failure.what}: {failure.why}" for failure in failures)
            yield replace(opened, notes=(*said, *opened.notes))
            return
    raise failures[0]


_ONLY_WEIGHTS = "the file holds only weights"


def _refusal(checkpoint: Checkpoint, settings: RunSettings, runtimes: tuple[Runtime, ...]) -> str:
    """Return why no framework may be given the file; empty if one may."""
    if checkpoint.architecture is None and _is_of_keras(checkpoint):
        return _ONLY_WEIGHTS
    if checkpoint.writer.startswith("Keras 1."):
        return "neither Keras 3 nor tf-keras loads files of Keras 1"
    if not any(checkpoint.format in runtime.formats for runtime in runtimes):
        return f"no runtime loads models of the format {checkpoint.format}"
    if checkpoint.code and not settings.trust:
        more = f" and {len(checkpoint.code) - 1} more hold" if len(checkpoint.code) > 1 else " holds"
        return f"{printable(checkpoint.code[0])}{more} code (run it with --trust)"
    return ""


def _better(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield what to install for a file that the runtimes at hand cannot load."""
    for runtime in fitting(checkpoint):
        if not _is_installed(runtime):
            yield f"{runtime.title} may load it and is not installed: {runtime.install}"
