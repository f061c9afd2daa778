"""ncnn: on the processor, without Winograd and narrow types for the proof, and as it computes by default besides.

It has no axis for samples: an input of (1, 3, 32, 32) is given as (3, 32, 32). By default it keeps weights as float16,
also those of a file of float32, and computes in float16 on ARM processors that can (src/option.h, `use_fp16_storage`
and `use_fp16_arithmetic`). A batch norm is x * (slope / root) + (bias - slope * mean / root), each of the two rounded
by itself (src/layer/batchnorm.cpp): 5 of a million nasty elements were beyond the bound of one slope for both, by 1 %.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bninspect.arithmetic.formula import Parameters
from bninspect.environment import installed
from bninspect.errors import RuntimeFailure, UsageError
from bninspect.formats.ncnn import format as container
from bninspect.formats.ncnn.param import MAGIC
from bninspect.formats.tensorflow import files
from bninspect.records import Array, BatchNorm, Checkpoint, DeclaredPrecision, Form, Run, graph
from bninspect.records.graph import Network
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Begin, RunSettings, Session
from bninspect.runtimes.session import CallSite
from bninspect.safe_text import printable

_runtime = partial(loading.start, "ncnn", "ncnn")
_PLAIN = (
    "lightmode",
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_storage",
    "use_winograd_convolution",
    "use_vulkan_compute",
)


def observe(checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Have ncnn load the file itself and run it; observe every batch norm. Raises as `Runtime.observe`."""
    session = opened(checkpoint, settings)
    found = [entry for entry in container.parsed(Path(checkpoint.path)) if entry.layer.kind == "BatchNorm"]
    calls = [
        CallSite(container.norm(entry), entry.layer.inputs[0], entry.layer.outputs[0], unseen=True) for entry in found
    ]
    return graph_run.observe(session, calls, {}, checkpoint, settings, begin)


def observe_layers(checkpoint: Checkpoint, _settings: RunSettings, begin: Begin) -> Run:
    """Run ncnn's BatchNorm on the parameters that we read."""
    _runtime()
    return graph_run.observe_alone(_title(), Form.FOLDED, _alone, checkpoint, begin)


def opened(checkpoint: Checkpoint, _settings: RunSettings) -> Session:
    """Load a file. Raises as `observe`."""
    ncnn = _runtime()
    path = Path(checkpoint.path)
    loading.require_digest(checkpoint, files.digest([path, container.beside(path)]))
    network = container.read_network(path)
    outputs = tuple(port.name for port in network.outputs)
    stated = all(port.shape for port in network.inputs)
    if not stated and len(network.inputs) > 1:
        why = f"it has {len(network.inputs)} inputs, and does not state their shapes"
        hint = "write them into the lines of its inputs: 0=WIDTH 1=HEIGHT 2=CHANNELS"
        raise RuntimeFailure(f"{_title()} cannot run the model", why=why, hint=hint)
    _loaded(path, plain=True)

    def replay(data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        inputs = dict(zip((port.name for port in network.inputs), data.values(), strict=True))
        with loading.failing_as(f"{_title()} cannot run the model again"):
            return _replayed(_loaded(path, plain=True), network, {**inputs, **given}, names)

    def run(data: Mapping[str, Array], names: Sequence[str], *, plain: bool) -> Mapping[str, Array]:
        given = dict(zip((port.name for port in network.inputs), data.values(), strict=True))
        _require_fitting(network, given)
        with loading.failing_as(f"{_title()} cannot run the model"):
            return _values(_loaded(path, plain=plain), given, names)

    return Session(
        title=_title(),
        # Of a single input that does not state its shape the user does, as for TorchScript.
        inputs=tuple(graph_run.described(port.name, port.shape, port.dtype) for port in network.inputs if stated),
        outputs=outputs,
        compute=lambda data, names: run(data, names, plain=True),
        optimised=lambda data: run(data, outputs, plain=False),
        form=Form.FOLDED,
        alone=_alone,
        environment={"ncnn": installed("ncnn"), "device": "CPU"},
        deployed=_deployed(ncnn),
        replay=replay,
    )


def _title() -> str:
    return f"ncnn {installed('ncnn')}"


def _deployed(ncnn: Any) -> DeclaredPrecision | None:
    """Return how ncnn computes by default: it keeps weights as float16, and on some processors all there is."""
    options = ncnn.Option()
    if options.use_fp16_arithmetic and ncnn.cpu_support_arm_asimdhp():
        return DeclaredPrecision("float16", "this processor has it; opt.use_fp16_arithmetic = false turns it off")
    if options.use_fp16_storage:
        return DeclaredPrecision("float16", "weights are kept so; opt.use_fp16_storage = false turns it off")
    return None


def _net(*, plain: bool) -> Any:
    net = _runtime().Net()
    for name in _PLAIN if plain else ():
        setattr(net.opt, name, False)
    return net


def _loaded(path: Path, *, plain: bool) -> Any:
    net = _net(plain=plain)
    with loading.failing_as(f"{_title()} cannot load the file"):
        if net.load_param(str(path)) != 0 or net.load_model(str(container.beside(path))) != 0:
            raise RuntimeFailure(f"{_title()} cannot load the file", why="it says no more than that")
    return net


def _values(net: Any, data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
    extractor = net.create_extractor()
    for name, values in data.items():
        if values.shape[:1] != (1,):
            raise UsageError("ncnn runs one sample at a time", why=f"{printable(name)} has shape {values.shape}")
        extractor.input(name, _mat(values[0]))
    found = {name: data[name] for name in names if name in data}
    for name in dict.fromkeys(names):
        if name not in found:
            status, value = extractor.extract(name)
            if status != 0:
                raise RuntimeFailure(f"{_title()} cannot run the model", why=f"it gives no {printable(name)}")
            found[name] = np.array(value)[np.newaxis]
    return found


def _require_fitting(network: Network, data: Mapping[str, Array]) -> None:
    """Raise RuntimeFailure for input of more or fewer channels than a layer takes: ncnn reads beyond it and dies."""
    for node in network.nodes:
        values = data.get(node.inputs[0]) if node.inputs else None
        if values is None or node.kernel is None:
            continue
        dense, norm = node.operation == graph.DENSE, node.operation == graph.BATCH_NORM
        wanted = node.kernel.outputs if norm else node.kernel.weights.shape[1] * node.kernel.groups
        size = values[0].size if dense else values.shape[1] if values.ndim > 1 else 0
        # A dense layer takes the rows of a matrix, or all there is.
        if size != wanted and not (dense and values.shape[-1] == wanted):
            why = f"{printable(node.name)} takes {wanted:,} channels, and is given shape {values.shape}"
            raise RuntimeFailure(f"{_title()} cannot run the model", why=why)


def _replayed(net: Any, network: Network, given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
    """Return the named values, each computed by the net from the nearest values before it that are given."""
    producers, found = network.producers(), dict[str, Array]()
    for name in names:
        maker = producers.get(name)
        starts = maker.inputs if maker is not None else ()
        between = graph.leading_to((value for value in starts if value not in given), network, given)
        near = {value for value in (*starts, *(value for node in between for value in node.inputs)) if value in given}
        found |= _values(net, {value: given[value] for value in near}, [name])
    return found


def _mat(values: Array) -> Any:
    """Return values as ncnn has them, in memory of its own: a Mat of an array does not keep that alive."""
    own = np.array(values, np.float32, order="C")
    return _runtime().Mat(own).clone()


def _alone(layer: BatchNorm, x: Array) -> Array:
    """Run one BatchNorm on x, whose channels are along axis 1: its samples as one more axis of one sample."""
    of = Parameters.of(layer)
    arrays = (of.gamma, of.mean, of.variance, of.beta)
    text = f"{MAGIC}\n2 2\nInput x 0 1 x\nBatchNorm norm 1 1 x y 0={layer.channels} 1={layer.epsilon or 0.0:.9e}\n"
    own = np.moveaxis(x, 1, 0)
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        path = Path(folder) / "norm.param"
        path.write_text(text, encoding="ascii")
        path.with_suffix(".bin").write_bytes(b"".join(array.astype("<f4").tobytes() for array in arrays))
        net = _loaded(path, plain=True)
        with loading.failing_as(f"{_title()} cannot run a batch norm"):
            found = _values(net, {"x": own.reshape(1, own.shape[0], own.shape[1], -1)}, ["y"])
    return np.moveaxis(found["y"].reshape(own.shape), 0, 1)
