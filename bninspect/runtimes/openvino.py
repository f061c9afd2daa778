"""OpenVINO: IR files, on the processor, with float32 arithmetic for the proof and as it computes by default besides.

The CPU plug-in computes in bfloat16 on processors that have it, even for a file of float32, unless
INFERENCE_PRECISION_HINT says f32 (docs.openvino.ai, "CPU Device", Floating Point Data Types Specifics). How it does is
seen in the outputs of the model alone: it keeps what leads to an output in float32 behind the last heavy operation, so
that whoever makes a batch norm's result an output changes its precision.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bninspect.arithmetic.formula import Parameters
from bninspect.errors import RuntimeFailure
from bninspect.formats.openvino import format as container
from bninspect.formats.openvino import graph as operations
from bninspect.formats.openvino import norms
from bninspect.formats.openvino.model import IrGraph
from bninspect.formats.tensorflow import files
from bninspect.records import Array, BatchNorm, Checkpoint, DeclaredPrecision, Form, Run
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Begin, RunSettings, Session
from bninspect.runtimes.session import CallSite
from bninspect.safe_text import printable

_runtime = partial(loading.start, "openvino", "openvino")
_HINT = "INFERENCE_PRECISION_HINT"
_EXACT = {_HINT: "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
"""Float32 throughout: what goes into a dense layer of compressed weights is quantised on the way otherwise."""
_PLAIN = {**_EXACT, "LP_TRANSFORMS_MODE": "NO"}
"""As the file says, too. Trap: with its transformations for low precision OpenVINO 2026.4 returns a convolution without
the step of its weights where that alone is asked for, and zeros for a FakeQuantize where what it takes is."""


def observe(checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Have OpenVINO load the file itself and run it; observe every batch norm. Raises as `Runtime.observe`."""
    session = opened(checkpoint, settings)
    graph = container.parsed(Path(checkpoint.path))[1]
    calls = [CallSite(norm.layer, norm.x, norm.y, norm.constants) for norm in norms.find(graph) if norm.y]
    return graph_run.observe(session, calls, {}, checkpoint, settings, begin)


def observe_layers(checkpoint: Checkpoint, _settings: RunSettings, begin: Begin) -> Run:
    """Run OpenVINO's BatchNormInference on the parameters that we read."""
    return graph_run.observe_alone(_title(), Form.AFFINE, _alone, checkpoint, begin)


def opened(checkpoint: Checkpoint, _settings: RunSettings) -> Session:
    """Load a file. Raises as `observe`."""
    ov = _runtime()
    path = Path(checkpoint.path)
    weights = container.beside(path)
    loading.require_digest(checkpoint, files.digest([path, weights]))
    graph = container.parsed(path)[1]
    network = operations.read(graph)
    outputs = tuple(dict.fromkeys(output.name for output in network.outputs))
    cut: dict[Cut, Compiled] = {}

    def ready(
        given: Mapping[str, Array], names: Sequence[str], hint: Mapping[str, str], *others: Mapping[str, str]
    ) -> Compiled:
        try:
            return _compiled(ov.Core().read_model(str(path), str(weights)), graph, given, names, hint)
        except RuntimeError:
            # Without the transformations it moves strides to one of two branches that meet, behind a FakeQuantize.
            if not others:
                raise
            return ready(given, names, *others)

    def replay(data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        key = tuple((name, one.dtype.name, one.shape) for name, one in given.items()), tuple(names)
        with loading.failing_as(f"{_title()} cannot run the model again"):
            if key not in cut:
                cut[key] = ready(given, names, _PLAIN, _EXACT)
            return cut[key](data, given)

    def run(data: Mapping[str, Array], names: Sequence[str], *hints: Mapping[str, str]) -> Mapping[str, Array]:
        with loading.failing_as(f"{_title()} cannot run the model"):
            wanted = [name for name in dict.fromkeys(names) if name not in data]
            found = ready({}, wanted, *hints)(data, {})
            return {**{name: data[name] for name in names if name in data}, **found}

    def seen(data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        found = run(data, [*names, *outputs], _PLAIN, _EXACT)
        if not any(one.kind == "fakequantize" for one in graph.operations):
            return {name: found[name] for name in names}
        # Of the traps of _PLAIN, where it cannot be had, zeros show: then each value is computed by itself.
        plain = run(data, outputs, _EXACT)
        if not all(_is_near(found[name], plain[name]) for name in outputs):
            found = {name: run(data, [name], _PLAIN, _EXACT)[name] for name in names}
        return {name: found[name] for name in names}

    return Session(
        title=_title(),
        inputs=tuple(graph_run.described(source.name, source.shape, source.dtype) for source in network.inputs),
        outputs=outputs,
        compute=seen,
        optimised=lambda data: run(data, outputs, _asked()),
        form=Form.AFFINE,
        alone=_alone,
        deployed=_deployed(path, weights),
        environment={"openvino": str(ov.__version__).partition("-")[0], "device": "CPU"},
        replay=replay,
    )


def _is_near(one: Array, other: Array) -> bool:
    """Return whether two runs of one model differ by little more than a few steps of rounding."""
    size = float(np.abs(other).max(initial=0.0)) if other.dtype.kind == "f" else 0.0
    return bool(np.allclose(one, other, rtol=0, atol=_STEPS * size, equal_nan=True))


_STEPS = 3 / 255


def _asked() -> dict[str, str]:
    """Return the precision that the user's environment asks for, as the program that deploys the model would."""
    return {_HINT: os.environ[_HINT]} if os.environ.get(_HINT) else {}


def _deployed(path: Path, weights: Path) -> DeclaredPrecision | None:
    """Return how the plug-in computes the file by default; None if that is in float32."""
    with loading.failing_as(f"{_title()} cannot load the file"):
        core = _runtime().Core()
        compiled = core.compile_model(core.read_model(str(path), str(weights)), "CPU", _asked())
        dtype = _NARROW.get(compiled.get_property(_HINT).get_type_name())
    if dtype is None:
        return None
    if _asked():
        return DeclaredPrecision(dtype, f"{_HINT}={printable(_asked()[_HINT])} asks for it")
    return DeclaredPrecision(dtype, f"this processor has it; {_HINT}=f32 turns it off")


Cut: TypeAlias = tuple[tuple[tuple[str, str, tuple[int, ...]], ...], tuple[str, ...]]
"""Name, type and shape of each value that is given, and the names of those that are wanted."""
Compiled: TypeAlias = Callable[[Mapping[str, Array], Mapping[str, Array]], Mapping[str, Array]]
"""Runs a model on its input and on values that are given on the way, each by name, and returns the wanted ones."""
_NARROW = {"bf16": "bfloat16", "f16": "float16"}


def _title() -> str:
    return f"OpenVINO {str(_runtime().__version__).partition('-')[0]}"


def _compiled(
    model: Any, graph: IrGraph, given: Mapping[str, Array], names: Sequence[str], hint: Mapping[str, str]
) -> Compiled:
    """Return a loaded model ready to run, made to take the given values on the way and to return the named ones.

    What is given goes to all that read the value; what the model itself computes there can be wanted all the same.
    """
    places = {value: (one.name, place) for one in graph.operations for place, value in enumerate(one.outputs)}
    loaded: dict[str, Any] = {}
    for operation in model.get_ops():
        if loaded.setdefault(operation.get_friendly_name(), operation) is not operation:
            why = f"two of its operations are called {printable(operation.get_friendly_name())}"
            raise RuntimeFailure("its values cannot be told apart", why=why)
    entries = {
        name: _cut_in(model, loaded[places[name][0]].output(places[name][1]), one) for name, one in given.items()
    }
    ports = [loaded[places[name][0]].output(places[name][1]) for name in names]
    results = [one.get_node().get_friendly_name() for one in model.add_outputs(ports)] if ports else []
    order = [output.get_node().get_friendly_name() for output in model.outputs]
    compiled = _runtime().Core().compile_model(model, "CPU", dict(hint))
    fed = {source.get_node().get_friendly_name(): source for source in compiled.inputs}

    def run(data: Mapping[str, Array], taken: Mapping[str, Array]) -> Mapping[str, Array]:
        inputs = {fed[places[name][0]]: values for name, values in data.items()}
        inputs |= {fed[entries[name]]: np.ascontiguousarray(values) for name, values in taken.items()}
        found = compiled(inputs)
        return {name: np.array(found[order.index(result)]) for name, result in zip(names, results, strict=True)}

    return run


def _cut_in(model: Any, port: Any, values: Array) -> str:
    """Make all that read a value of a model read a new input instead; return the name of that."""
    from openvino import Type
    from openvino import opset15 as ops

    name = f"bninspect/{port.get_node().get_friendly_name()}:{port.get_index()}"
    entry = ops.parameter(values.shape, Type(values.dtype), name=name)
    for reader in list(port.get_target_inputs()):
        reader.replace_source_output(entry.output(0))
    model.add_parameters([entry])
    return name


def _alone(layer: BatchNorm, x: Array) -> Array:
    """Run one BatchNormInference on x, whose channels are along axis 1."""
    ov = _runtime()
    from openvino import opset15

    dtype = x.dtype.name
    of = Parameters.of(layer)
    arrays = [array.astype(dtype) for array in (of.gamma, of.beta, of.mean, of.variance)]
    with loading.failing_as(f"{_title()} cannot run a batch norm"):
        inner = opset15.parameter(x.shape, ov.Type(np.dtype(dtype)), "x")
        norm = opset15.batch_norm_inference(inner, *map(opset15.constant, arrays), layer.epsilon)
        model = ov.Model([norm], [inner], "one")
        compiled = ov.Core().compile_model(model, "CPU", {_HINT: "f64" if dtype == "float64" else "f32"})
        return np.array(compiled([x])[0])
