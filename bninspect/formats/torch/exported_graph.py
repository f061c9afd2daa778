"""The nodes of an exported graph, and of the graphs within it: the branches of torch.cond, the bodies of loops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bninspect.errors import UnsafeFile

DEPTH = 16
"""Graphs within graphs: a branch in the body of a loop, and so on."""
LOOPS = frozenset(f"higher_order::{name}" for name in ("associative_scan", "map_impl", "scan", "while_loop"))
"""Operators that run a graph of theirs any number of times. All others run one of theirs once, or not at all."""
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.[A-Za-z]\w*)?")


@dataclass(frozen=True)
class ExportedCall:
    """A node of the graph, at whatever depth."""

    name: str
    operation: str
    """Name of the operator without its overload, and without the namespace of ATen: `relu`, `quantized::linear`."""
    arguments: Mapping[str, Any]
    """By the names of the schema. Tensors are names; those that a graph within the graph was given, by the outer."""
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int | None, ...], ...] = ()
    """Of its outputs; None where a length is open, () where the file does not say."""
    inside: tuple[str, ...] = ()
    """The nodes whose graphs it is in, the outermost first: of a branch, a loop. Empty for the graph itself."""
    within: tuple[str, ...] = ()
    """The operations of these nodes."""


def every_call(
    graph: Mapping[str, Any],
    outer: Mapping[str, str] = MappingProxyType({}),
    inside: tuple[str, ...] = (),
    within: tuple[str, ...] = (),
) -> Iterator[ExportedCall]:
    """Yield the nodes of a graph and of every graph within it; `outer` are the names of what it was given."""
    if len(inside) > DEPTH:
        raise UnsafeFile("this graph is nested too deeply", why=f"graphs over {DEPTH} levels deep in one another")
    prefix = "".join(f"{name}/" for name in inside)
    for node in graph["nodes"]:
        # Higher-order operators have no names for their arguments.
        arguments = [
            (given["name"] or str(place), _named(_plain(given["arg"]), outer, prefix))
            for place, given in enumerate(node["inputs"])
        ]
        made = [name for output in node["outputs"] for name in tensors_of(output)]
        outputs = tuple(prefix + name for name in made)
        operation = operator_name(node["target"])
        name = prefix + (node.get("name") or (outputs or (operation,))[0].removeprefix(prefix))
        shapes = tuple(shape(graph, output) for output in made)
        yield ExportedCall(name, operation, dict(arguments), outputs, shapes, inside, within)
        graphs = [place for place, (_, value) in enumerate(arguments) if isinstance(value, _Within)]
        # What follows the graphs are their inputs, in order; what stands before them chooses among them.
        given = [name for _, value in arguments[max(graphs, default=0) :] for name in _names(value)]
        for place in graphs:
            branch = arguments[place][1]
            takes = [name for argument in branch.graph["inputs"] for name in tensors_of(argument)]
            known = dict(zip(takes, given, strict=True)) if len(takes) == len(given) else {}
            title = f"{name.removeprefix(prefix)}.{branch.name}"
            yield from every_call(branch.graph, known, (*inside, title), (*within, operation))


def shape(graph: Mapping[str, Any], name: str) -> tuple[int | None, ...]:
    """Return the lengths of a tensor of a graph; empty for one that it does not describe."""
    sizes = graph.get("tensor_values", {}).get(name, {"sizes": ()})["sizes"]
    return tuple(int(length["as_int"]) if "as_int" in length else None for length in sizes)


def operator_name(target: str) -> str:
    """Return the name of an operator, such as `torch.ops.aten.add.Tensor`, without overload and without `aten`.

    torch follows every dot of a target as an attribute. What has more of them than an operator is left as it is.
    """
    found = _OPERATOR.fullmatch(target)
    return f"{found[1]}::{found[2]}".removeprefix("aten::") if found else target


class _Tensor(str):
    """The name of a tensor, as opposed to a text."""


@dataclass(frozen=True)
class _Within:
    name: str
    graph: Mapping[str, Any]


def _plain(argument: Mapping[str, Any]) -> Any:
    ((kind, value),) = argument.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return _Tensor(value["name"])
    if kind == "as_optional_tensor":
        return _plain(value)
    if kind == "as_tensors":
        return [_Tensor(tensor["name"]) for tensor in value]
    if kind == "as_optional_tensors":
        return [_plain(tensor) for tensor in value]
    return _Within(value["name"], value["graph"]) if kind == "as_graph" else value


def _named(value: Any, outer: Mapping[str, str], prefix: str) -> Any:
    """Return an argument with the names of tensors as they are outside."""
    if isinstance(value, _Tensor):
        return _Tensor(outer.get(value, prefix + value))
    return [_named(part, outer, prefix) for part in value] if isinstance(value, list) else value


def _names(value: Any) -> list[str]:
    """Return the names of the tensors in an argument."""
    parts = value if isinstance(value, list) else [value]
    return [part for part in parts if isinstance(part, _Tensor)]


def tensors_of(argument: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors that an input of a graph, or an output of a node, stands for."""
    return _names(_plain(argument)) if set(argument) & {"as_tensor", "as_tensors"} else []


def tensor_names(call: ExportedCall) -> tuple[str, ...]:
    """Return the tensors that a node takes, in the order of its arguments."""
    return tuple(name for value in call.arguments.values() for name in _names(value))
