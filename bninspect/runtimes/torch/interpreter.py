"""An exported graph run node by node, and the graphs within it that run once: of `no_grad`, autocast, torch.cond."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np

from bninspect.records import Array

_OPERANDS: dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    "wrap": lambda rest: rest,
    "tag_activation_checkpoint": lambda rest: rest,
    "strict_mode": lambda rest: tuple(rest[0]),
    "hints_wrapper": lambda rest: tuple(rest[0]),
    "invoke_subgraph": lambda rest: rest[1:],
}
"""What a higher-order operator hands to its graph, of the arguments behind that."""
_SETTING = frozenset(("wrap_with_set_grad_enabled", "wrap_with_autocast"))
"""Higher-order operators that change a setting and then call what they are given, a graph or another function."""


def taken_by(node: str, place: int) -> str:
    """Return the name of what a node is given as one of its arguments, as that is then."""
    return f"input {place} of {node}"


def showing(
    module: Any,
    names: Container[str],
    show: Callable[[str, Any], None],
    replaced: Mapping[str, Array],
    prefix: str = "",
) -> Any:
    """Return a function that runs a graph and hands on the values of `names`, as `exported_graph` calls them.

    Values that are `replaced` are shown as they were computed; what comes behind them is computed of the others.
    """
    import torch

    class Showing(torch.fx.Interpreter):  # type: ignore[misc]  # torch is Any to mypy
        def run_node(self, node: Any) -> Any:
            for place, given in enumerate(node.args):
                if taken_by(prefix + node.name, place) in names:
                    show(taken_by(prefix + node.name, place), self.env[given])
            graphs = {
                place: given.target
                for place, given in enumerate(node.args)
                if isinstance(given, torch.fx.Node) and given.op == "get_attr"
            }
            inlined = _inlined(node, graphs, self) if graphs else None
            value = super().run_node(node) if inlined is None else inlined()
            show(prefix + node.name, value)
            other = replaced.get(prefix + node.name)
            return value if other is None else torch.from_numpy(np.array(other)).to(value.dtype)

    def _inlined(node: Any, graphs: dict[int, str], interpreter: Any) -> Callable[[], Any] | None:
        """Return how to run a node that calls graphs, so that these show their values; None for any other node."""
        kind = getattr(node.target, "_name", "")
        args, _ = interpreter.fetch_args_kwargs_from_env(node)
        called = [
            showing(given, names, show, replaced, f"{prefix}{node.name}.{graphs[place]}/") if place in graphs else given
            for place, given in enumerate(args)
        ]
        if kind == "cond":
            condition, taken, otherwise, operands = called
            return lambda: (taken if condition else otherwise)(*operands)
        if kind in _SETTING:
            return lambda: node.target(*called)
        if kind in _OPERANDS:
            return lambda: called[0](*_OPERANDS[kind](tuple(called[1:])))
        return None

    return Showing(module).run
