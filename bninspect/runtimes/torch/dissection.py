"""An exported program taken apart: any nodes of its graph run by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import Array
from bninspect.runtimes import fetched_stream, loading
from bninspect.runtimes.dissection import Arriving, Dissection, dependent
from bninspect.runtimes.session import CallSite
from bninspect.runtimes.torch import interpreter


def dissect(program: Any, calls: Sequence[CallSite], data: Mapping[str, Array]) -> Dissection:
    """Take a program apart.

    Raises:
        RuntimeFailure: it writes over a value that another operation takes as well, or a batch norm lies inside a graph
            within the graph.
    """
    nodes = list(program.graph_module.graph.nodes)
    _refuse_overwriting(nodes)
    taken = {interpreter.taken_by(node.name, place): given for node in nodes for place, given in enumerate(node.args)}
    if any(call.x not in taken for call in calls):
        raise RuntimeFailure("the model cannot be taken apart", why="a batch norm is inside a graph within the graph")
    statistics = {
        call.loaded[name]: call.layer.name
        for call in calls
        for name in ("moving_mean", "moving_variance")
        if name in call.loaded
    }
    arriving = tuple(
        Arriving(call.layer.name, taken[call.x].name, partial(fetched_stream.axes, call)) for call in calls
    )
    operations = (([one.name for one in node.all_input_nodes], (node.name,)) for node in nodes if node.op != "output")
    steps = tuple(dependent(operations, data, statistics))
    return Dissection(steps, arriving, lambda values: values, _ProgramParts(program).run)


def _refuse_overwriting(nodes: Sequence[Any]) -> None:
    """Raise RuntimeFailure unless what an operation writes over is taken by it alone, or by what was a view of it."""
    for node in nodes:
        schema = getattr(node.target, "_schema", None)
        for place, argument in enumerate(schema.arguments if schema is not None else ()):
            if argument.alias_info is None or not argument.alias_info.is_write or place >= len(node.args):
                continue
            given = node.args[place]
            while getattr(given, "op", "") == "call_function":
                if len(given.users) > 1:
                    raise RuntimeFailure(
                        "the model cannot be taken apart", why=f"{node.name} writes over what others take, too"
                    )
                views = getattr(given.target, "is_view", False) or _returns_its_input(given)
                given = given.args[0] if views and given.args else None


def _returns_its_input(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(returned.alias_info is not None for returned in schema.returns)


class _ProgramParts:
    """Parts of a program, each from given values to wanted ones."""

    def __init__(self, program: Any) -> None:
        import torch

        kinds = torch.export.graph_signature.InputKind
        self._module = program.graph_module
        self._nodes = list(program.graph_module.graph.nodes)
        stored = {**program.state_dict, **program.constants}
        self._parameters = {
            spec.arg.name: stored[spec.target].detach()
            for spec in program.graph_signature.input_specs
            if spec.kind is not kinds.USER_INPUT
        }
        self._numbers: set[str] = set()
        """Values that are not tensors, such as the number of samples."""

    def run(self, given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        """Compute values by name from others. Raises RuntimeFailure."""
        import torch

        running = torch.fx.Interpreter(self._module, garbage_collect_values=False)
        environment = running.env
        for node in self._nodes:
            if node.name in given:
                values = given[node.name]
                number = node.name in self._numbers
                environment[node] = values.item() if number else torch.from_numpy(np.array(values))
            elif node.name in self._parameters:
                environment[node] = self._parameters[node.name]
        with loading.failing_as("the model cannot be run in parts"), torch.no_grad(), loading.quiet():
            for node in self._needed(given, names):
                environment[node] = running.run_node(node)
        return {node.name: self._array(node.name, environment[node]) for node in self._nodes if node.name in names}

    def _needed(self, given: Mapping[str, Array], names: Sequence[str]) -> list[Any]:
        missing, needed = set(names), []
        for node in reversed(self._nodes):
            if node.name in missing and node.name not in given and node.name not in self._parameters:
                needed.append(node)
                missing.update(source.name for source in node.all_input_nodes)
        return needed[::-1]

    def _array(self, name: str, value: Any) -> Array:
        import torch

        if isinstance(value, torch.Tensor):
            if value.dtype == torch.bfloat16:
                raise RuntimeFailure("the model cannot be taken apart", why="NumPy has no bfloat16")
            return np.asarray(value.detach().numpy())
        if not isinstance(value, (int, float)):
            raise RuntimeFailure("the model cannot be taken apart", why=f"{name} is not an array")
        self._numbers.add(name)
        return np.asarray(value)
