"""Batch norms that are spelt out in single operators, in whatever order, the root of their variance among them.

What a converter computed ahead, `x * scale + shift`, is none of them: nobody can tell from it what it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from bninspect.formats import algebra
from bninspect.formats.algebra import AffineStep, Leaf, Polynomial, Root
from bninspect.formats.onnx.constants import Constants
from bninspect.formats.onnx.model import GraphProto, NodeProto
from bninspect.records import Form

_VIEWS = frozenset(("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"))
_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Neg"))
_DEEPEST = 32


@dataclass(frozen=True, eq=False)
class SpeltOut:
    """A batch norm in single operators."""

    nodes: tuple[NodeProto, ...]
    x: str
    parameters: Mapping[str, str]
    """Name of the constant that each parameter is, by its standard name."""
    axis: int
    """Counted from the end."""
    form: Form
    normalisation: algebra.Normalisation


@dataclass(frozen=True, eq=False)
class _Step(AffineStep):
    node: NodeProto
    operand: str
    """The constant that it takes; empty for a change of sign."""


def search(graph: GraphProto, constants: Constants) -> tuple[tuple[SpeltOut, ...], int]:
    """Return the batch norms of a graph that are spelt out, and how many roots of a variance are in none of them."""
    if not any(node.op in {"Sqrt", "Pow"} for node in graph.nodes):
        return (), 0
    sites: dict[NodeProto, SpeltOut] = {}
    roots: set[Root] = set()
    # A single number is epsilon, or the variance of the only channel: the second only where the first makes no sense.
    for single in (False, True):
        expressions = _Expressions(graph, constants, single=single)
        for node in graph.nodes:
            site = None if node in sites else expressions.site(node)
            if site is not None:
                # With its gamma or beta it goes on where it seemed to end.
                for place, inner in enumerate(site.nodes[:-1], 1):
                    if inner in sites and sites[inner].nodes == site.nodes[:place]:
                        del sites[inner]
                sites[node] = site
        roots |= expressions.roots()
    used = {site.normalisation.root.variance for site in sites.values()}
    passed = {node for site in sites.values() for node in site.nodes[:-1]}
    loose = {root.variance for root in roots} - used
    return tuple(site for node, site in sites.items() if node not in passed), len(loose)


class _Expressions:
    """What the values of a graph are as expressions over its constants."""

    def __init__(self, graph: GraphProto, constants: Constants, *, single: bool) -> None:
        self._constants = constants
        self._single = single
        self._nodes = graph.nodes
        self._polynomials: dict[str, Polynomial | None] = {}
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)
        self._uses.update(value.name for value in graph.outputs)
        self._steps: dict[str, _Step] = {}
        for node in graph.nodes:
            if node.op in _ARITHMETIC and (step := self._step(node)) is not None:
                self._steps[node.outputs[0]] = step

    def site(self, node: NodeProto) -> SpeltOut | None:
        """Return the batch norm that ends at a node."""
        found = algebra.spelt_out(node.outputs[0], self._steps.get, self._uses) if node.outputs else None
        return None if found is None else self._found(*found)

    def roots(self) -> set[Root]:
        """Return the roots of a variance and epsilon that the graph takes."""
        named = ((node, self._of(node.outputs[0])) for node in self._nodes if node.outputs)
        found: set[Root] = set()
        for node, expression in named:
            symbols = {symbol for monomial in expression or () for symbol, _ in monomial if isinstance(symbol, Root)}
            # Epsilon outside of the root is a mistake that people make: not a batch norm, but meant for one.
            outside = node.op == "Add" and expression is not None and algebra.ONE in expression
            found |= {root for root in symbols if root.epsilon or outside}
        return found

    def _found(self, steps: list[_Step], found: algebra.Normalisation) -> SpeltOut | None:
        sizes = {self._size(leaf) for leaf in found.parameters.values()}
        axis = next((axis for step in steps if (axis := self._axis(step.operand)) is not None), None)
        if self._single and sizes == {1}:
            axis = -1  # whichever it is, all is one channel
        if axis is None or len(sizes) > 1:
            return None
        return SpeltOut(
            tuple(step.node for step in steps),
            steps[0].x,
            {name: leaf.tensor[0] for name, leaf in found.parameters.items()},
            axis,
            algebra.form(steps, found),
            found,
        )

    def _size(self, leaf: Leaf) -> int:
        constant = self._constants.get(leaf.tensor[0])
        return 0 if constant is None else constant.values.size

    def _axis(self, name: str) -> int | None:
        """Return the one axis along which a constant varies, counted from the end."""
        constant = self._constants.get(name)
        shape = () if constant is None else constant.values.shape
        long = [place - len(shape) for place, length in enumerate(shape) if length > 1]
        return long[0] if len(long) == 1 else None

    def _step(self, node: NodeProto) -> _Step | None:
        if len(node.outputs) != 1:
            return None
        given = [name for name in node.inputs if name in self._constants]
        if len(given) == len(node.inputs) or len(node.inputs) - len(given) != 1:
            return None
        if node.op == "Neg":
            return _Step(node.takes(0), algebra.number(-1.0), algebra.number(0.0), node, "")
        polynomial = self._of(given[0]) if given else None
        if polynomial is None or len(node.inputs) != 2:
            return None
        data = 0 if node.takes(1) == given[0] else 1
        found = algebra.mapped(node.op.lower(), data, polynomial)
        return None if found is None else _Step(node.takes(data), *found, node, given[0])

    def _of(self, name: str, depth: int = 0) -> Polynomial | None:
        if name not in self._polynomials:
            self._polynomials[name] = self._expression(name, depth) if depth < _DEEPEST else None
        return self._polynomials[name]

    def _expression(self, name: str, depth: int) -> Polynomial | None:
        if name not in self._constants:
            return None
        node = self._constants.maker(name)
        if node is None or node.op == "Constant":
            return self._leaf(name)
        sides = [self._of(source, depth + 1) for source in node.inputs if source]
        if node.op in _VIEWS:
            return sides[0]
        known = [side for side in sides if side is not None]
        if len(known) < len(sides):
            return None
        if self._single and node.op == "Add":
            known = self._with_epsilon(known)
        return _combined(node.op, known, self._constants.number(node.takes(1)))

    def _with_epsilon(self, sides: list[Polynomial]) -> list[Polynomial]:
        """Return what is added with the smaller of two single numbers, or one beside a root, as the number it is."""
        leaves = [algebra.single(side) for side in sides]
        numbers = [None if leaf is None else self._constants.number(leaf.tensor[0]) for leaf in leaves]
        known = [(number, place) for place, number in enumerate(numbers) if number is not None]
        if not known:
            return sides
        least, at = min(known)
        return [algebra.number(least) if place == at else side for place, side in enumerate(sides)]

    def _leaf(self, name: str) -> Polynomial | None:
        constant = self._constants.get(name)
        if constant is None or constant.values.dtype.kind != "f" or constant.step is not None:
            return None
        if constant.values.size == 1 and not (self._single and constant.values.ndim):
            return algebra.number(float(constant.values.ravel()[0]))
        return algebra.parameter(Leaf((name,), (name, 0)))


def _combined(op: str, sides: list[Polynomial], exponent: float | None) -> Polynomial | None:
    match op, sides:
        case "Add" | "Sub" | "Mul" | "Div", [left, right]:
            return algebra.combined(op.lower(), left, right)
        case "Neg", [one]:
            return algebra.negate(one)
        case "Sqrt", [one]:
            return algebra.root(one, 1)
        case "Reciprocal", [one]:
            return algebra.invert(one)
        case "Pow", [one, _] if exponent in {0.5, -0.5}:
            return algebra.root(one, 1 if exponent == 0.5 else -1)
    return None
