"""ONNX Runtime: ONNX models, without optimisation so that no batch norm is merged into its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.exporters.onnx import encode_layers
from bninspect.formats.onnx import blocked, inlining, norms, operations, write
from bninspect.formats.onnx import format as container
from bninspect.formats.onnx.blocked import Blocks
from bninspect.formats.onnx.constants import Constants
from bninspect.formats.onnx.model import ModelProto
from bninspect.records import Array, BatchNorm, Checkpoint, Form, Run
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Begin, RunSettings, Session
from bninspect.runtimes.session import CallSite

_runtime = partial(loading.start, "onnxruntime", "onnx")
_BLOCKED = blocked.DOMAIN.removesuffix("::")
_TYPES = {"float": "float32", "double": "float64"}


def observe(checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Have ONNX Runtime load the file itself and run it; observe every batch norm. Raises as `Runtime.observe`."""
    session = opened(checkpoint, settings)
    calls, unobserved = calls_of(Path(checkpoint.path))
    return graph_run.observe(session, calls, unobserved, checkpoint, settings, begin)


def observe_layers(checkpoint: Checkpoint, _settings: RunSettings, begin: Begin) -> Run:
    """Run ONNX Runtime's BatchNormalization on the parameters that we read."""
    _runtime()
    return graph_run.observe_alone(_title(), Form.AFFINE, _alone, checkpoint, begin)


def opened(checkpoint: Checkpoint, _settings: RunSettings) -> Session:
    """Load a file. Raises as `observe`."""
    ort = _runtime()
    path = Path(checkpoint.path)
    content = loading.content(checkpoint, container.digest)
    stored = bytes(inlining.inline(content).data)
    plain = session_of(stored, path, optimise=False)
    outputs = tuple(output.name for output in plain.get_outputs())

    # Most files do not name the domain: they are not parsed again.
    model = container.parsed(path) if _BLOCKED.encode() in stored else None
    channels = _blocks(model, path).channels if model is not None else {}

    @lru_cache(maxsize=2)
    def fetcher(names: tuple[str, ...]) -> Fetcher:
        own = {name: write.PLAIN + name for name in names if name in channels}
        content = write.with_plain(stored, {name: channels[name] for name in own}) if own else stored
        fetch = fetcher_of(content, path, outputs, [own.get(name, name) for name in names])
        back = {value: name for name, value in own.items()}
        return lambda data: {back.get(name, name): one for name, one in fetch(data).items()}

    def compute(data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        if all(name in outputs for name in names):
            return run_session(plain, data, names)
        return fetcher(tuple(names))(data)

    def replay(data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        return _replayed(stored, path, data, given, names)

    return Session(
        title=_title(),
        inputs=tuple(_input(source) for source in plain.get_inputs()),
        outputs=outputs,
        compute=compute,
        optimised=lambda data: run_session(session_of(content, path, optimise=True), data, outputs),
        form=Form.AFFINE,
        alone=_alone,
        environment={"onnxruntime": ort.__version__, "device": "CPU"},
        network=operations.read(model, path, _block()) if model is not None and channels else None,
        replay=None if channels else replay,
    )


def _blocks(model: ModelProto, path: Path) -> Blocks:
    """Return what of a model stands in blocks of channels."""
    graph = model.graphs[0]
    if not any(node.op == blocked.CONVOLUTION for node in graph.nodes):
        return Blocks()
    return blocked.find(graph, Constants((graph,), path, model.opset), _block())


@lru_cache(maxsize=1)
def _block() -> int:
    """Return how many channels stand side by side in a block: the ninth is behind eight others, or begins the next."""
    node = write.data(1, "x") + write.data(2, "y") + write.data(4, "ReorderInput") + write.data(7, _BLOCKED)
    graph = write.graph([node], [], [write.value("x", "float32", (1, 16, 1, 2))], [write.data(1, "y")])
    model = write.model(graph, "") + write.data(8, write.data(1, _BLOCKED) + write.integer(2, 1))
    x = np.zeros((1, 16, 1, 2), np.float32)
    x[0, 8, 0, 0] = 1
    y = run_session(session_of(model, None, optimise=False), {"x": x}, ["y"])["y"]
    return 16 if int(y.argmax()) == 8 else 8


Fetcher = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Runs a model on input by name, and returns some of its values."""
UNROUNDED = "bninspect/unrounded/"
"""Before the name of a value: the value as its reader gets it, not as the type of the value would round it."""


def fetcher_of(stored: bytes, path: Path, outputs: Sequence[str], names: Sequence[str]) -> Fetcher:
    """Return a function that runs a model and returns the named values, `outputs` or not.

    A float16 value between two operators that ONNX Runtime only has for float32 is never rounded: of the casts that it
    puts around each of them those that meet cancel out, at every level of optimisation
    (onnxruntime/core/optimizer/insert_cast_transformer.cc). As an output of its own the value is rounded. A cast to
    float32 behind it meets the same cast as its reader's own does, and returns what the reader gets.
    """
    source = {name: name.removeprefix(UNROUNDED) for name in names}
    further = list(dict.fromkeys(name for name in source.values() if name not in outputs))
    session = session_of(write.with_outputs(stored, further), path, optimise=False)
    halves = {output.name for output in session.get_outputs() if output.type == "tensor(float16)"}
    wide = {name: value for name, value in source.items() if name != value and value in halves}
    if not wide:

        def plain(data: Mapping[str, Array]) -> Mapping[str, Array]:
            values = run_session(session, data, list(dict.fromkeys(source.values())))
            return {name: values[value] for name, value in source.items()}

        return plain
    # Where a value is an output, too, the cast behind it stays: what is wanted both ways takes a run of its own.
    rounded = [name for name, value in source.items() if name not in wide and value in wide.values()]
    others = {value: None for name, value in source.items() if name not in wide and name not in rounded}
    alone = session_of(write.with_only(stored, others, wide), path, optimise=False)

    def unrounded(data: Mapping[str, Array]) -> Mapping[str, Array]:
        values = {
            **run_session(alone, data, [*others, *wide]),
            **(run_session(session, data, rounded) if rounded else {}),
        }
        return {name: values[name if name in wide else value] for name, value in source.items()}

    return unrounded


def _replayed(
    stored: bytes, path: Path, data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]
) -> Mapping[str, Array]:
    """Run a model with some values on the way given; of these return what the model itself computed."""
    own = {name: write.COMPUTED + name if name in given else name for name in names}
    model = write.with_inputs(stored, {name: (one.dtype.name, one.shape) for name, one in given.items()})
    there = {one.name for one in session_of(model, path, optimise=False).get_outputs()}
    further = [name for name in dict.fromkeys(own.values()) if name not in there]
    session = session_of(write.with_outputs(model, further), path, optimise=False)
    values = run_session(session, {**data, **given}, list(dict.fromkeys(own.values())))
    return {name: values[output] for name, output in own.items()}


def _title() -> str:
    return f"ONNX Runtime {_runtime().__version__}"


def session_of(model: bytes, path: Path | None, *, optimise: bool) -> Any:
    """Load a model, whose external data lies beside `path`. Raises RuntimeFailure."""
    ort = _runtime()
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # Waiting threads would take the processor from what is done between two runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if path is not None:
        # A model that is handed over as bytes has no folder in which its external data could be.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.absolute().parent)
        )
    with loading.failing_as(f"{_title()} cannot load the file"):
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
    """Run a loaded model, and return named outputs. Raises RuntimeFailure."""
    with loading.failing_as(f"{_title()} cannot run the model"):
        return dict(zip(names, session.run(list(names), dict(data)), strict=True))


def _input(one: Any) -> Any:
    kind = str(one.type).removeprefix("tensor(").removesuffix(")")
    shape = [length if isinstance(length, int) and length > 0 else None for length in one.shape]
    return graph_run.described(one.name, shape, _TYPES.get(kind, kind))


def calls_of(path: Path) -> tuple[tuple[CallSite, ...], Mapping[str, str]]:
    """Return where the layers of a file are called, and why some of them cannot be observed."""
    found = norms.find(container.parsed(path), path).found
    unobserved = {norm.layer.name: why for norm in found if (why := _hidden(norm))}
    return tuple(_call(norm) for norm in found if norm.layer.name not in unobserved), unobserved


def _hidden(found: norms.FoundNorm) -> str:
    if found.graph:
        return "it is inside a branch or a loop, where its input and output cannot be seen"
    if why := found.layer.statistics.elsewhere:
        return why
    return "" if found.layer.axis is not None else "it has a mean and variance for every element"


def _call(found: norms.FoundNorm) -> CallSite:
    return CallSite(found.layer, UNROUNDED + found.x, found.y, found.constants, form=found.form)


def _alone(layer: BatchNorm, x: Array) -> Array:
    """Run one BatchNormalization node on x, whose channels are along axis 1."""
    session = session_of(encode_layers([layer], ["y"], x.dtype.name), None, optimise=False)
    return run_session(session, {"y/x": x}, ["y/y"])["y/y"]
