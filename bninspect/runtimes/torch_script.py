"""TorchScript in torch: the graph with every module inlined, what goes in and out of `aten::batch_norm` made outputs.

There is no public way to see inside a TorchScript module. Freezing inlines it and makes its parameters constants; its
optimisation of numbers is off, for it folds batch norms into convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.names import printable
from bninspect.records import Array, BatchNorm, Checkpoint, Form, Run, Statistics
from bninspect.runtimes import graph_run, loading
from bninspect.runtimes.graph_run import Call, Session
from bninspect.runtimes.runtime import Begin, RunSettings

_INPUTS = {"gamma": 1, "beta": 2, "moving_mean": 3, "moving_variance": 4}
"""Places of the parameters among the inputs of aten::batch_norm."""
_OUTPUT = "output"


def observe(
    title: str,
    alone: Callable[[BatchNorm, Array], Array],
    checkpoint: Checkpoint,
    settings: RunSettings,
    begin: Begin,
) -> Run:
    """Observe every batch norm in the graph of a TorchScript file. Raises as `torch.observe`."""
    import torch

    with loading.failing_as(f"{title} cannot load the file"), loading.quiet():
        frozen = torch.jit.freeze(torch.jit.load(checkpoint.path, map_location="cpu").eval(), optimize_numerics=False)
        graph = frozen.graph.copy()
        nodes = graph.findAllNodes("aten::batch_norm")
        taken = list(graph.inputs())
    if len(taken) > 2:
        raise RuntimeFailure(f"{title} was not given an input", why=f"the module takes {len(taken) - 1}, not one")
    values = {f"{place}:{name}": value for place, node in enumerate(nodes) for name, value in _values(node).items()}
    calls, unobserved = _calls(nodes, checkpoint.layers)

    def compute(data: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        with loading.failing_as(f"{title} cannot run the model"), torch.no_grad(), loading.quiet():
            return _run(torch, frozen, graph, values, data, names)

    session = Session(
        title=title,
        inputs=(),
        outputs=(_OUTPUT,),
        compute=compute,
        optimised=lambda data: compute(data, (_OUTPUT,)),
        form=Form.UNKNOWN,
        alone=alone,
        environment={"torch": torch.__version__, "device": "CPU"},
    )
    return graph_run.observe(session, calls, unobserved, checkpoint, settings, begin)


def _values(node: Any) -> dict[str, Any]:
    inputs = list(node.inputs())
    return {"x": inputs[0], "y": node.output(), **{name: inputs[place] for name, place in _INPUTS.items()}}


def _calls(nodes: Sequence[Any], layers: Sequence[BatchNorm]) -> tuple[tuple[Call, ...], Mapping[str, str]]:
    by_path = {layer.location: layer for layer in layers}
    calls = []
    for place, node in enumerate(nodes):
        found = _values(node)
        # A constant is called `self.<path of the module>.running_mean`; a frozen file has lost those names.
        path = found["moving_mean"].debugName().removeprefix("self.").removesuffix(".running_mean")
        layer = by_path.get(path) or _equal(found, layers)
        if layer is not None:
            loaded = {name: f"{place}:{name}" for name in _INPUTS if found[name].type().kind() != "NoneType"}
            calls.append(Call(layer, f"{place}:x", f"{place}:y", loaded))
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


def _run(
    torch: Any,
    frozen: Any,
    graph: Any,
    values: Mapping[str, Any],
    data: Mapping[str, Array],
    names: Sequence[str],
) -> Mapping[str, Array]:
    x = torch.from_numpy(np.array(next(iter(data.values()))))
    kept: dict[str, Array] = {}
    outside = {}
    for name in names:
        if name != _OUTPUT and values[name].node().kind() == "prim::Constant":
            kept[name] = values[name].toIValue().detach().numpy()
        elif name != _OUTPUT:
            outside[name] = values[name]
    copy = graph.copy()
    own = {value.debugName(): value for node in copy.nodes() for value in node.outputs()}
    own |= {value.debugName(): value for value in copy.inputs()}
    missing = [name for name, value in outside.items() if value.debugName() not in own]
    if missing:
        raise RuntimeFailure("a batch norm is inside a branch or a loop", why=printable(missing[0]))
    for value in outside.values():
        copy.registerOutput(own[value.debugName()])
    if outside:
        copy.makeMultiOutputIntoTuple()
    results = torch._C._create_function_from_graph("forward", copy)(frozen, x)  # noqa: SLF001 - there is no public way
    results = list(results) if outside else [results]
    if _OUTPUT in names:
        kept[_OUTPUT] = _array(results[0])
    kept.update(zip(outside, map(_array, results[1:]), strict=True))
    return kept


def _array(value: Any) -> Any:
    first = value[0] if isinstance(value, (tuple, list)) else value
    return first.detach().numpy()
