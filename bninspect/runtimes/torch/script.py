"""TorchScript in torch: the graph with every module inlined, and any of its values made an output.

There is no public way to see inside a TorchScript module. Freezing inlines it and makes its parameters constants; its
optimisation of numbers is off, for it folds batch norms into convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.formats.torch.norm_operators import OPERATORS
from bninspect.formats.torch.running_statistics import FIELDS
from bninspect.records import Array, BatchNorm, Checkpoint, Form, Run, Statistics
from bninspect.runtimes import loading
from bninspect.runtimes import session as graph_run
from bninspect.runtimes.runtime import Begin, RunSettings, Session
from bninspect.runtimes.session import CallSite
from bninspect.runtimes.torch import graph as torch_network
from bninspect.runtimes.torch import script_inputs
from bninspect.safe_text import printable


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
    loaded = load(title, alone, checkpoint, settings)
    return graph_run.observe(loaded.session, loaded.calls, loaded.unobserved, checkpoint, settings, begin)


def load(
    title: str, alone: Callable[[BatchNorm, Array], Array], checkpoint: Checkpoint, settings: RunSettings
) -> LoadedScript:
    """Load a TorchScript file. Raises as `torch.observe`."""
    import torch

    with loading.failing_as(f"{title} cannot load the file"), loading.quiet():
        frozen = torch.jit.freeze(torch.jit.load(checkpoint.path, map_location="cpu").eval(), optimize_numerics=False)
        plain = _named(frozen.graph)
        graph = plain.copy()
        norms = tuple(_tapped(graph))
        arguments = script_inputs.arguments(frozen, graph)
    matched = _matched(norms, checkpoint.layers)
    calls, unobserved = _calls(matched, checkpoint.layers)
    outputs = tuple(output.debugName() for output in graph.outputs() if output.type().kind() == "TensorType")

    def replay(data: Mapping[str, Array], given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        with loading.failing_as(f"{title} cannot run the model"), torch.no_grad(), loading.quiet():
            return _run(torch, frozen, graph, script_inputs.values(arguments, data), given, names)

    session = Session(
        title=title,
        inputs=script_inputs.inputs(arguments, settings),
        outputs=outputs,
        compute=lambda data, names: replay(data, {}, names),
        optimised=lambda data: replay(data, {}, outputs),
        form=Form.UNKNOWN,
        alone=alone,
        environment={"torch": str(torch.__version__), "device": "CPU"},
        replay=replay,
        network=torch_network.of_graph(plain, {norm.result: layer for norm, layer in matched}),
    )
    return LoadedScript(session, calls, unobserved)


@dataclass(frozen=True, eq=False)
class _Tapped:
    """A batch norm of a graph, with copies of what it is given and of what it gives."""

    values: Mapping[str, Any]
    """Values of the graph by the standard names of the parameters, those that it is given."""
    epsilon: float | None
    result: str
    """What it gives, by its name in the graph."""
    x: str = ""
    """The copy of what it is given."""
    y: str = ""
    """The copy of what it gives."""
    unseen: str = ""
    """Why its input and output cannot be made outputs of the graph; empty if they can."""


def _named(graph: Any) -> Any:
    """Return a copy of a graph in which every value has a name that copies keep: a number they count anew."""
    copy = graph.copy()
    for place, node in enumerate((copy, *copy.nodes())):
        for value in node.inputs() if node is copy else node.outputs():
            if value.debugName().isdecimal():
                value.setDebugName(f"value_{place}")
    return copy


def _tapped(graph: Any) -> Iterator[_Tapped]:
    """Have a graph copy what goes into each batch norm just before, and what comes out just behind; yield them.

    Operations in place may overwrite both: ReLU(inplace=True), `out += x`.
    """
    top = {value.debugName() for node in graph.nodes() for value in node.outputs()}
    for operator, known in OPERATORS.items():
        for node in graph.findAllNodes(operator if "::" in operator else f"aten::{operator}"):
            given = dict(zip(known.arguments, node.inputs(), strict=False))
            if len(given) < len(known.arguments):
                continue  # without running statistics in its schema
            y = next(iter(node.outputs()))
            values = {
                field: given[name]
                for field, name in FIELDS.items()
                if name in given and given[name].type().kind() != "NoneType"
            }
            epsilon = given[known.epsilon].toIValue()
            if y.debugName() in top:
                before, behind = _copy(graph, given["input"], node), _copy(graph, y, node, behind=True)
                yield _Tapped(values, epsilon, y.debugName(), before.debugName(), behind.debugName())
            else:
                yield _Tapped(values, epsilon, y.debugName(), unseen="it is inside a branch or a loop")


def _copy(graph: Any, value: Any, place: Any, *, behind: bool = False) -> Any:
    """Have a graph copy a value before or behind a node; return the copy."""
    with graph.insert_point_guard(next(iter(graph.nodes()))):
        none = graph.insertConstant(None)
    node = graph.create("aten::clone", [value, none], 1)
    (node.insertAfter if behind else node.insertBefore)(place)
    node.output().setDebugName(f"{value.debugName()}.{'behind' if behind else 'before'}")
    return node.output()


def _matched(norms: Sequence[_Tapped], layers: Sequence[BatchNorm]) -> tuple[tuple[_Tapped, BatchNorm], ...]:
    """Return the calls of stored layers, with these."""
    found: list[tuple[_Tapped, BatchNorm]] = []
    for norm in norms:
        layer = _layer(norm, layers, {layer.name for _, layer in found})
        if layer is not None:
            found.append((norm, layer))
    return tuple(found)


def _calls(
    matched: Sequence[tuple[_Tapped, BatchNorm]], layers: Sequence[BatchNorm]
) -> tuple[tuple[CallSite, ...], Mapping[str, str]]:
    unobserved = {
        layer.name: layer.statistics.elsewhere for layer in layers if layer.statistics is not Statistics.MOVING
    }
    for norm, layer in matched:
        if norm.unseen:
            unobserved.setdefault(layer.name, norm.unseen)
    return tuple(
        CallSite(layer, norm.x, norm.y, {name: str(value.debugName()) for name, value in norm.values.items()})
        for norm, layer in matched
        if layer.name not in unobserved
    ), unobserved


def _layer(norm: _Tapped, layers: Sequence[BatchNorm], called: Collection[str]) -> BatchNorm | None:
    """Return the stored layer that a call is of.

    Freezing makes one constant of parameters that are equal, whichever layers they are of, so that the name of one,
    `self.<path of the module>.running_mean`, may be that of another layer. So the numbers decide, and among layers
    with the same numbers, of which each does what the other does, their order.
    """
    path = norm.values["moving_mean"].debugName() if "moving_mean" in norm.values else ""
    path = path.removeprefix("self.").removesuffix(".running_mean")
    fitting = [layer for layer in layers if _is_equal(norm, layer)]
    fitting.sort(key=lambda layer: (layer.name in called, layer.location != path))
    named = [layer for layer in layers if layer.location == path]
    return next(iter((*fitting, *named)), None)


def _is_equal(norm: _Tapped, layer: BatchNorm) -> bool:
    if norm.values.keys() != layer.arrays.keys() or norm.epsilon != layer.epsilon:
        return False
    for name, array in layer.arrays.items():
        value = norm.values[name].toIValue()
        loaded = None if value is None else value.detach().float().numpy()
        if loaded is None or not np.array_equal(loaded, array.astype(np.float32), equal_nan=True):
            return False
    return True


def _run(
    torch: Any,
    frozen: Any,
    graph: Any,
    arguments: Sequence[Any],
    given: Mapping[str, Array],
    names: Sequence[str],
) -> Mapping[str, Array]:
    """Return the named values: constants as they are, others made outputs of a copy of the graph.

    Values that are `given` become inputs of it; what the graph computes of them is what is returned.
    """
    copy = graph.copy()
    known = {value.debugName(): value for node in copy.nodes() for value in node.outputs()}
    known |= {value.debugName(): value for value in copy.inputs()}
    missing = [name for name in names if name not in known]
    if missing:
        raise RuntimeFailure("a value is inside a branch or a loop", why=printable(missing[0]))
    # Lists of tensors and shapes are values of the graph, too.
    names = [name for name in names if known[name].type().kind() == "TensorType"]
    constants = {name: known[name].toIValue() for name in names if known[name].node().kind() == "prim::Constant"}
    moving = [name for name in dict.fromkeys(names) if name not in constants]
    replaced = [name for name in given if name in known]
    for name in replaced:
        # Before any copy is taken: of the value that the graph computes, which nothing else reads any more.
        known[name].replaceAllUsesAfterNodeWith(known[name].node(), copy.addInput())
    for name in moving:
        value = known[name]
        # An operation in place may overwrite a value before the graph returns it.
        own = value.node().kind() in {"prim::Param", "aten::clone"} or value.type().kind() != "TensorType"
        copy.registerOutput(value if own else _copy(copy, value, value.node(), behind=True))
    copy.makeMultiOutputIntoTuple()
    taken = [*arguments, *(torch.from_numpy(np.array(given[name])) for name in replaced)]
    results = torch._C._create_function_from_graph("forward", copy)(frozen, *taken)  # noqa: SLF001 - no public way
    # What the module returns itself comes first.
    found = dict(zip(moving, list(results)[-len(moving) :] if moving else (), strict=True))
    return {name: value.detach().numpy() for name, value in {**constants, **found}.items()}
