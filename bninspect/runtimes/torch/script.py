"""TorchScript in torch: the graph with every module inlined, and any of its values made an output.

There is no public way to see inside a TorchScript module. Freezing inlines it and makes its parameters constants; its
optimisation of numbers is off, for it folds batch norms into convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import Array, BatchNorm, Checkpoint, Form, Run, Statistics
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Begin, RunSettings, Session
from bninspect.runtimes.session import CallSite
from bninspect.runtimes.torch import graph as torch_network
from bninspect.safe_text import printable

_INPUTS = {"gamma": 1, "beta": 2, "moving_mean": 3, "moving_variance": 4}
"""Places of the parameters among the inputs of aten::batch_norm."""


@dataclass(frozen=True, eq=False)
class LoadedScript:
    """A TorchScript file that torch has loaded."""

    session: Session
    calls: tuple[CallSite, ...]
    unobserved: Mapping[str, str]


def observe(
    title: str,
    alone: Callable[[BatchNorm, Array], Array],
    checkpoint: Checkpoint,
    settings: RunSettings,
    begin: Begin,
) -> Run:
    """Observe every batch norm in the graph of a TorchScript file. Raises as `torch.observe`."""
    loaded = load(title, alone, checkpoint)
    return graph_run.observe(loaded.session, loaded.calls, loaded.unobserved, checkpoint, settings, begin)


def load(title: str, alone: Callable[[BatchNorm, Array], Array], checkpoint: Checkpoint) -> LoadedScript:
    """Load a TorchScript file. Raises as `torch.observe`."""
    import torch

    with loading.failing_as(f"{title} cannot load the file"), loading.quiet():
        frozen = torch.jit.freeze(torch.jit.load(checkpoint.path, map_location="cpu").eval(), optimize_numerics=False)
        graph = frozen.graph.copy()
        nodes = graph.findAllNodes("aten::batch_norm")
        taken = len(list(graph.inputs())) - 1
    if taken != 1:
        raise RuntimeFailure(f"{title} was not given an input", why=f"the module takes {taken}, not one")
    calls, unobserved = _calls(nodes, checkpoint.layers)
    outputs = tuple(one.debugName() for one in graph.outputs() if one.type().kind() == "TensorType")

    def compute(data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        with loading.failing_as(f"{title} cannot run the model"), torch.no_grad(), loading.quiet():
            return _run(torch, frozen, graph, data, names)

    session = Session(
        title=title,
        inputs=(),
        outputs=outputs,
        compute=compute,
        optimised=lambda data: compute(data, outputs),
        form=Form.UNKNOWN,
        alone=alone,
        environment={"torch": str(torch.__version__), "device": "CPU"},
        network=torch_network.of_graph(graph, {call.y: call.layer for call in calls}),
    )
    return LoadedScript(session, calls, unobserved)


def _values(node: Any) -> dict[str, Any]:
    inputs = list(node.inputs())
    return {"x": inputs[0], "y": node.output(), **{name: inputs[place] for name, place in _INPUTS.items()}}


def _calls(nodes: Sequence[Any], layers: Sequence[BatchNorm]) -> tuple[tuple[CallSite, ...], Mapping[str, str]]:
    by_path = {layer.location: layer for layer in layers}
    calls = []
    for node in nodes:
        found = _values(node)
        # A constant is called `self.<path of the module>.running_mean`; a frozen file has lost those names.
        path = found["moving_mean"].debugName().removeprefix("self.").removesuffix(".running_mean")
        layer = by_path.get(path) or _equal(found, layers)
        if layer is not None:
            loaded = {name: found[name].debugName() for name in _INPUTS if found[name].type().kind() != "NoneType"}
            calls.append(CallSite(layer, found["x"].debugName(), found["y"].debugName(), loaded))
    unobserved = {
        layer.name: f"it normalises by the statistics of each {layer.statistics}"
        for layer in layers
        if layer.statistics is not Statistics.MOVING
    }
    return tuple(call for call in calls if call.layer.name not in unobserved), unobserved


def _equal(found: Mapping[str, Any], layers: Sequence[BatchNorm]) -> BatchNorm | None:
    """Return the one layer with the mean and variance of a call."""
    arrays = {name: found[name].toIValue() for name in ("moving_mean", "moving_variance")}
    fitting = [
        layer
        for layer in layers
        if all(
            array is not None and name in layer.arrays and np.array_equal(array.float().numpy(), layer.arrays[name])
            for name, array in arrays.items()
        )
    ]
    return fitting[0] if len(fitting) == 1 else None


def _run(torch: Any, frozen: Any, graph: Any, data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
    """Return the named values: constants as they are, others made outputs of a copy of the graph."""
    copy = graph.copy()
    known = {value.debugName(): value for node in copy.nodes() for value in node.outputs()}
    known |= {value.debugName(): value for value in copy.inputs()}
    missing = [name for name in names if name not in known]
    if missing:
        raise RuntimeFailure("a batch norm is inside a branch or a loop", why=printable(missing[0]))
    constants = {name: known[name].toIValue() for name in names if known[name].node().kind() == "prim::Constant"}
    moving = [name for name in dict.fromkeys(names) if name not in constants]
    for name in moving:
        copy.registerOutput(known[name])
    copy.makeMultiOutputIntoTuple()
    x = torch.from_numpy(np.array(next(iter(data.values()))))
    results = torch._C._create_function_from_graph("forward", copy)(frozen, x)  # noqa: SLF001 - there is no public way
    # What the module returns itself comes first.
    found = dict(zip(moving, list(results)[-len(moving) :] if moving else (), strict=True))
    return {name: value.detach().numpy() for name, value in {**constants, **found}.items()}
