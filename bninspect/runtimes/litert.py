"""LiteRT, and TensorFlow Lite, which it was until 2024: TFLite models, with every tensor kept for us to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.environment import installed
from bninspect.formats.tflite import format as container
from bninspect.formats.tflite import graph as operations
from bninspect.formats.tflite import operations as networks
from bninspect.formats.tflite.model import Subgraph
from bninspect.records import Array, Checkpoint, Evidence, Form, Run
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Begin, RunSettings, Session
from bninspect.runtimes.session import CallSite


def _litert() -> tuple[str, Any]:
    with loading.starting("ai-edge-litert", "litert"):
        from ai_edge_litert import interpreter
    return f"LiteRT {installed('ai_edge_litert')}", interpreter


def observe_in(load: Callable[[], tuple[str, Any]], checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Have the runtime load and run the file; observe every scale and shift that a converter left.

    Raises as `Runtime.observe`.
    """
    session, graph = _session(load, checkpoint)
    calls = [_call(name, affine) for name, affine in operations.affine_maps(graph)]
    unobserved = {call.layer.name: why for call in calls if (why := _hidden(call))}
    floats = [call for call in calls if call.layer.name not in unobserved]
    return graph_run.observe(session, floats, unobserved, checkpoint, settings, begin)


def refuse_layers(
    load: Callable[[], tuple[str, Any]], checkpoint: Checkpoint, _settings: RunSettings, _begin: Begin
) -> Run:
    """Say that there is no batch norm that could run alone: TFLite has no such operation."""
    title, _ = load()
    reason = "TFLite has no operation for a batch norm, so that none can run alone"
    return Run(title, Evidence.LAYER, unobserved={layer.name: reason for layer in checkpoint.layers})


def open_in(load: Callable[[], tuple[str, Any]], checkpoint: Checkpoint, _settings: RunSettings) -> Session:
    """Load a file, and read what it computes. Raises as `observe`, and as reading it."""
    session, graph = _session(load, checkpoint)
    return replace(session, network=networks.read(graph))


def _session(load: Callable[[], tuple[str, Any]], checkpoint: Checkpoint) -> tuple[Session, Subgraph]:
    """Load a file. Raises as `observe`."""
    title, module = load()
    content = loading.content(checkpoint)
    graph = container.parsed(Path(checkpoint.path), content)
    outputs = tuple(output.label for output in graph.outputs)

    ran: list[tuple[Mapping[str, Array], Any]] = []
    """The latest input, and the interpreter that holds every tensor of it: until it is asked again, once."""

    def compute(data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        with loading.failing_as(f"{title} cannot run the model"):
            known = [interpreter for given, interpreter in ran if _is_same(given, data)]
            ran.clear()
            if known:
                return _values(known[0], names)
            interpreter = fresh.pop() if fresh else _interpreter(module, content, plain=True)
            _invoked(interpreter, data)
            ran.append((dict(data), interpreter))
            return _values(interpreter, names)

    def optimised(data: Mapping[str, Array]) -> Mapping[str, Array]:
        with loading.failing_as(f"{title} cannot run the model"):
            return _values(_invoked(_interpreter(module, content, plain=False), data), outputs)

    with loading.failing_as(f"{title} cannot load the file"):
        fresh = [_interpreter(module, content, plain=True)]
    inputs = tuple(graph_run.described(source.label, source.signature, source.dtype) for source in graph.inputs)
    return Session(title, inputs, outputs, compute, optimised, Form.AFFINE, environment={"device": "CPU"}), graph


def _interpreter(module: Any, content: bytes, *, plain: bool) -> Any:
    """Return an interpreter: with every tensor kept and the reference kernels, or as applications get it.

    Without `experimental_preserve_all_tensors` a tensor is memory that later operations have written over.
    """
    # TensorFlow says at every interpreter that LiteRT is its successor.
    with loading.quiet():
        if not plain:
            return module.Interpreter(model_content=content)
        # The name moved from the module of LiteRT to a sub-module in TensorFlow.
        resolvers = getattr(module, "OpResolverType", None) or module.experimental.OpResolverType
        return module.Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )


def _is_same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Return whether two inputs are the same arrays, which nobody writes to."""
    return one.keys() == other.keys() and all(values is other[name] for name, values in one.items())


def _invoked(interpreter: Any, data: Mapping[str, Array]) -> Any:
    for name, values in data.items():
        interpreter.resize_tensor_input(_index(name), values.shape)
    interpreter.allocate_tensors()
    for name, values in data.items():
        interpreter.set_tensor(_index(name), values)
    interpreter.invoke()
    return interpreter


def _values(interpreter: Any, names: Sequence[str]) -> Mapping[str, Array]:
    return {name: np.array(interpreter.get_tensor(_index(name))) for name in names}


def _index(label: str) -> int:
    return int(label.partition(":")[0])


def _call(name: str, affine: operations.TfliteAffine) -> CallSite:
    loaded = {"gamma": affine.scale.label, "beta": affine.shift.label}
    return CallSite(
        affine.layer(name),
        affine.x.label,
        affine.last.outputs[0].label,
        loaded,
        subtracts=affine.sign < 0,
        activation=affine.last.activation,
    )


def _hidden(call: CallSite) -> str:
    if call.layer.notes:
        return "its numbers are quantised"
    return f"its result is seen only after a {call.activation}" if call.activation not in graph_run.VISIBLE else ""


observe = partial(observe_in, _litert)
observe_layers = partial(refuse_layers, _litert)
opened = partial(open_in, _litert)
