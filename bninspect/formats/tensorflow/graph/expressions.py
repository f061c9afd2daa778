"""What each tensor of a flat graph is as an expression over parameters, computed once, in the order of the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bninspect.formats import algebra
from bninspect.formats.algebra import AffineStep, Leaf, Polynomial
from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.flatten import FlatGraph, FlatNode, Tensor
from bninspect.records import Array
from bninspect.safe_text import printable

# What changes no value of a parameter: where a cast does, comparing what was loaded with what is stored tells.
_KEEPING = """
Identity Cast Reshape Squeeze ExpandDims StopGradient PreventGradient Enter RefEnter RefIdentity Snapshot
GuaranteeConst PlaceholderWithDefault EnsureShape BroadcastTo CheckNumerics CheckNumericsV2
DisableCopyOnRead ReadVariableOp
"""
VIEWS = frozenset(_KEEPING.split())
_VARIABLES = frozenset(("VarHandleOp", "VariableV2", "Variable"))
_ADDING = frozenset(("Add", "AddV2", "BiasAdd", "BiasAddV1"))
_DIVIDING = frozenset(("RealDiv", "Div"))
_KINDS = {**dict.fromkeys(_ADDING, "add"), **dict.fromkeys(_DIVIDING, "div"), "Sub": "sub", "Mul": "mul"}
_ARITHMETIC = frozenset((*_KINDS, "Neg"))
_MOST_CONSTANT = 1 << 20
"""Elements of a constant that may be looked at."""


@dataclass(frozen=True, eq=False)
class FlatStep(AffineStep):
    """An affine map in a flat graph."""

    node: str
    source: Tensor
    """The result of `x` that is the data."""


class Expressions:
    """The expressions of a flat graph. Raises DamagedFile for a damaged constant."""

    def __init__(self, graph: FlatGraph) -> None:
        self._graph = graph
        self._polynomials: dict[str, Polynomial] = {}
        self._steps: dict[str, FlatStep] = {}
        self._uses: Counter[str] = Counter()
        self._users: dict[str, list[FlatNode]] = {}
        for node in graph.nodes.values():
            for source, _ in node.inputs:
                self._uses[source] += 1
                self._users.setdefault(source, []).append(node)
            self._enter(node)

    def leaf(self, one: Tensor) -> Leaf | None:
        """Return the parameter that a tensor is, `None` if it is none."""
        polynomial = self._of(one)
        return None if polynomial is None else algebra.single(polynomial)

    def step(self, name: str) -> FlatStep | None:
        """Return what a node does to data, `None` if it is not an affine map of it."""
        return self._steps.get(name)

    def uses(self, name: str) -> int:
        """Return how many inputs a node feeds."""
        return self._uses[name]

    def is_named(self, leaf: Leaf) -> bool:
        """Return whether a parameter is a variable, or a constant that somebody named: none that an API filled in."""
        nodes = [self._graph.nodes[name] for name in leaf.sources]
        return all(node.op in _VARIABLES or not is_filled_in(node.node.name) for node in nodes)

    def is_constant(self, polynomial: Polynomial) -> bool:
        """Return whether an expression is one constant of the graph."""
        leaf = algebra.single(polynomial)
        return leaf is not None and all(self._graph.nodes[name].op == "Const" for name in leaf.sources)

    def is_data(self, one: Tensor) -> bool:
        """Return whether a tensor is neither a parameter nor made of them alone."""
        return self._of(one) is None and self._graph.nodes[one[0]].op != "Const"

    def following(self, name: str) -> Mapping[str, Leaf]:
        """Return gamma and beta, as far as they are found in the few operations after a root."""
        found: dict[str, Leaf] = {}
        level = [name]
        for _ in range(6):
            users = [user for one in level for user in self._users.get(one, ()) if user.op in _ARITHMETIC]
            for user in users:
                leaves = [leaf for source in user.inputs if (leaf := self.leaf(source)) and self.is_named(leaf)]
                parameter = "gamma" if user.op in ("Mul", *_DIVIDING) else "beta"
                if leaves:
                    found.setdefault(parameter, leaves[0])
            level = list(dict.fromkeys(user.name for user in users))
        return found

    def _enter(self, node: FlatNode) -> None:
        polynomial = self._basic(node)
        if polynomial is None and node.op in _ARITHMETIC and 0 < len(node.inputs) <= 2:
            polynomial = self._arithmetic(node)
        if polynomial is not None:
            self._polynomials[node.name] = polynomial

    def _of(self, one: Tensor) -> Polynomial | None:
        return self._polynomials.get(one[0]) if one[1] == 0 else None

    def _basic(self, node: FlatNode) -> Polynomial | None:
        if node.op in _VARIABLES:
            return algebra.parameter(Leaf((node.name,), (node.name, 0)))
        if node.op == "Const":
            return self._constant(node)
        if node.op in VIEWS and node.inputs:
            return self._viewed(node)
        if node.op in ("Rsqrt", "Sqrt", "Pow", "Reciprocal", "Inv") and node.inputs:
            return self._power(node)
        if node.op == "ConcatV2":
            return self._joined(node)
        if node.op == "Fill" and len(node.inputs) == 2 and self.number(node.inputs[1]) is not None:
            return algebra.parameter(Leaf((node.name,), (node.name, 0)))
        return None

    def _constant(self, node: FlatNode) -> Polynomial | None:
        proto = node.node.attribute("value").message(8)
        if not tensor.float_name(proto.integer(1)):
            return None
        shape = tensor.shape_of(proto.message(2))
        if shape == ():
            return algebra.number(float(tensor.value(proto, printable(node.name))))
        return algebra.parameter(Leaf((node.name,), (node.name, 0)))

    def _viewed(self, node: FlatNode) -> Polynomial | None:
        polynomial = self._of(node.inputs[0])
        leaf = None if polynomial is None else algebra.single(polynomial)
        if leaf is None:
            return polynomial
        shape, at = leaf.shape, leaf.tensor
        if node.op == "ReadVariableOp" or (node.op == "Identity" and at == node.inputs[0] == (leaf.sources[0], 0)):
            at = (node.name, 0)  # A handle or reference is not a value yet.
        if node.op == "Reshape" and len(node.inputs) > 1:
            lengths = self.integers(node.inputs[1])
            shape = tuple(lengths) if lengths and min(lengths) >= 0 else shape
        return algebra.parameter(Leaf(leaf.sources, at, shape))

    def _joined(self, node: FlatNode) -> Polynomial | None:
        leaves = [self.leaf(one) for one in node.inputs[:-1]]
        if not leaves or any(leaf is None for leaf in leaves):
            return None
        sources = tuple(source for leaf in leaves if leaf is not None for source in leaf.sources)
        if not all(self._graph.nodes[name].op in _VARIABLES for name in sources):
            return None
        return algebra.parameter(Leaf(sources, (node.name, 0)))

    def _power(self, node: FlatNode) -> Polynomial | None:
        polynomial = self._of(node.inputs[0])
        if polynomial is None:
            return None
        match node.op:
            case "Rsqrt":
                return algebra.root(polynomial, -1)
            case "Sqrt":
                return algebra.root(polynomial, 1)
            case "Pow":
                exponent = self.number(node.inputs[1]) if len(node.inputs) > 1 else None
                return algebra.root(polynomial, round(2 * exponent)) if exponent in (0.5, -0.5) else None
        return algebra.invert(polynomial)

    def _arithmetic(self, node: FlatNode) -> Polynomial | None:
        """Return the expression of a node whose inputs all are ones; keep the step of a node that has one of data."""
        sides = [self._of(source) for source in node.inputs]
        if node.op == "Neg":
            if sides[0] is not None:
                return algebra.negate(sides[0])
            self._keep(node, 0, (algebra.number(-1.0), algebra.number(0.0)))
            return None
        if len(sides) != 2:
            return None
        left, right = sides
        if left is not None and right is not None:
            return algebra.combined(_KINDS[node.op], left, right)
        if left is not None or right is not None:
            data = 0 if left is None else 1
            given = right if left is None else left
            assert given is not None  # noqa: S101 - narrows the type: one of them is there
            self._keep(node, data, algebra.mapped(_KINDS[node.op], data, given))
        return None

    def _keep(self, node: FlatNode, data: int, found: tuple[Polynomial, Polynomial] | None) -> None:
        if found is not None:
            self._steps[node.name] = FlatStep(node.inputs[data][0], *found, node.name, node.inputs[data])

    def behind_views(self, node: FlatNode) -> FlatNode:
        """Return the node that computes what a node only passes on."""
        for _ in range(8):
            if node.op not in VIEWS or not node.inputs:
                break
            node = self._graph.nodes[node.inputs[0][0]]
        return node

    def number(self, one: Tensor) -> float | None:
        """Return the number that a tensor is; None if it is none, or depends on anything."""
        polynomial = self._of(one)
        if polynomial is None or any(monomial != algebra.ONE for monomial in polynomial):
            return None
        return polynomial.get(algebra.ONE, 0.0)

    def integers(self, one: Tensor) -> list[int] | None:
        """Return the whole numbers of a constant, for shapes and axes."""
        node = self.behind_views(self._graph.nodes[one[0]])
        if node.op != "Const":
            return None
        values = self.constant(node)
        return [int(value) for value in values.ravel()] if values is not None and values.dtype.kind == "i" else None

    @staticmethod
    def constant(node: FlatNode) -> Array | None:
        """Return the value of a constant, `None` if it is not a parameter's size."""
        proto = node.node.attribute("value").message(8)
        shape = tensor.shape_of(proto.message(2))
        if shape is None or None in shape or np.prod([float(n or 0) for n in shape]) > _MOST_CONSTANT:
            return None
        return tensor.value(proto, printable(node.name))


def is_filled_in(name: str) -> bool:
    """Return whether a constant has a name that TensorFlow gave it, such as `bn/Const_1`."""
    last = name.rpartition("/")[2].lower().rstrip("0123456789").rstrip("_")
    return last in ("const", "ones", "ones_like", "zeros", "zeros_like", "fill")
