"""PyTorch: exported programs and TorchScript as they are, and layers built from the numbers of a state_dict."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.formats.torch import format as container
from bninspect.formats.torch import script
from bninspect.formats.torch.running_statistics import FIELDS
from bninspect.records import Array, BatchNorm, Checkpoint, Form, Run, Statistics
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Begin, RunSettings, Session
from bninspect.runtimes.session import CallSite
from bninspect.runtimes.torch import interpreter
from bninspect.runtimes.torch import script as torch_script

_torch = partial(loading.start, "torch", "torch")


def observe(checkpoint: Checkpoint, settings: RunSettings, begin: Begin) -> Run:
    """Have torch load the file itself and run it; observe every batch norm. Raises as `Runtime.observe`."""
    loading.same_bytes(checkpoint)
    if checkpoint.format == script.NAME:
        return torch_script.observe(title(), alone, checkpoint, settings, begin)
    session = opened(checkpoint, settings)
    calls, unobserved = calls_of(checkpoint)
    return graph_run.observe(session, calls, unobserved, checkpoint, settings, begin)


def observe_layers(checkpoint: Checkpoint, _settings: RunSettings, begin: Begin) -> Run:
    """Run torch.nn.BatchNorm2d with the parameters that we read."""
    return graph_run.observe_alone(title(), Form.UNKNOWN, alone, checkpoint, begin)


def opened(checkpoint: Checkpoint, settings: RunSettings) -> Session:
    """Load an exported program or TorchScript. Raises as `observe`."""
    if checkpoint.format == script.NAME:
        return torch_script.load(title(), alone, checkpoint, settings).session
    return session_of(loaded(checkpoint), checkpoint)


def loaded(checkpoint: Checkpoint) -> Any:
    """Return the exported program of a file. Raises as `observe`."""
    torch = _torch()
    # Of a path torch looks at the ending, and says on standard error what it thinks of another one than .pt2.
    path = Path(checkpoint.path)
    with loading.failing_as(f"{title()} cannot load the file"), loading.quiet(), path.open("rb") as file:
        return torch.export.load(file)


def session_of(program: Any, checkpoint: Checkpoint) -> Session:
    """Return an exported program, ready to run."""
    torch = _torch()
    network = container.read_network(Path(checkpoint.path))
    outputs = tuple(output.name for output in network.outputs)

    def replay(data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        kept: dict[str, Array] = {}
        interpret(program, data, names, lambda name, value: kept.update({name: value}), given)
        return kept

    return Session(
        title=title(),
        inputs=tuple(graph_run.described(source.name, source.shape, source.dtype) for source in network.inputs),
        outputs=outputs,
        compute=lambda data, names: replay(data, {}, names),
        optimised=lambda data: replay(data, {}, outputs),
        form=Form.UNKNOWN,  # contiguous input is computed as x * scale + shift, other input centred
        alone=alone,
        environment={"torch": str(torch.__version__), "device": "CPU"},
        replay=replay,
    )


def title() -> str:
    """Return what this torch is called."""
    return f"torch {_torch().__version__}"


def interpret(
    program: Any,
    data: Mapping[str, Array],
    names: Container[str],
    see: Callable[[str, Array], None],
    given: Mapping[str, Array] = MappingProxyType({}),
) -> None:
    """Run the graph node by node; it takes its parameters as inputs, in the order of its signature.

    `see` is handed each value of `names` as it is computed; what it raises comes out as it is. Values that are `given`
    go on in the place of what was computed.
    """
    torch = _torch()
    kinds = torch.export.graph_signature.InputKind
    stored = {**program.state_dict, **program.constants}
    arguments = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is kinds.USER_INPUT:
            arguments.append(torch.from_numpy(np.array(data[spec.arg.name])))
        else:
            arguments.append(stored[spec.target].detach())
    raised: list[Exception] = []

    def show(name: str, value: Any) -> None:
        # A copy, at once: operations in place may overwrite what a batch norm is given, and what it gives.
        if name in names and isinstance(value, torch.Tensor) and value.dtype != torch.bfloat16:
            try:
                see(name, value.detach().clone().numpy())
            except Exception as error:
                raised.append(error)
                raise

    try:
        with loading.failing_as(f"{title()} cannot run the model"), torch.no_grad():
            interpreter.showing(program.graph_module, names, show, given)(*arguments)
    except RuntimeFailure:
        if raised:
            raise raised[0] from None
        raise


def calls_of(checkpoint: Checkpoint) -> tuple[tuple[CallSite, ...], Mapping[str, str]]:
    """Return where the layers of an exported program are called, and why some cannot be observed."""
    layers = {layer.name: layer for layer in checkpoint.layers}
    calls = []
    unobserved = {
        layer.name: layer.statistics.elsewhere
        for layer in checkpoint.layers
        if layer.statistics is not Statistics.MOVING
    }
    for norm in container.read_calls(Path(checkpoint.path)):
        name = norm.layer.name
        if norm.unseen:
            unobserved.setdefault(name, norm.unseen)
        elif name in layers and name not in unobserved:
            first, last = norm.calls[0], norm.calls[-1]
            x = interpreter.taken_by(first.name, norm.place)
            missed = f"it is inside {last.inside[-1]}, which did not run" if last.inside else CallSite.missed
            calls.append(CallSite(layers[name], x, last.outputs[0], norm.constants, form=norm.form, missed=missed))
    return tuple(call for call in calls if call.layer.name not in unobserved), unobserved


def alone(layer: BatchNorm, x: Array) -> Array:
    """Run torch.nn.BatchNorm2d on x, whose channels are along axis 1."""
    torch = _torch()
    with loading.failing_as(f"{title()} cannot run it"), torch.no_grad():
        affine = bool({"gamma", "beta"} & layer.arrays.keys())
        norm = torch.nn.BatchNorm2d(layer.channels, eps=layer.epsilon, affine=affine)
        kind = torch.float64 if x.dtype == np.float64 else torch.float32
        tensors = {FIELDS[name]: torch.from_numpy(np.array(array)).to(kind) for name, array in layer.arrays.items()}
        norm.to(kind).load_state_dict(tensors, strict=False)
        result: Array = norm.eval()(torch.from_numpy(np.array(x))).numpy()
        return result
