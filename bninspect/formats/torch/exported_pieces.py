"""Batch norms of an exported program that are taken apart: sub, rsqrt, mul, add of stored numbers, in whatever order.

So torch writes them if a table of decompositions names them, and so does code that computes them by hand. What has no
root of a stored variance and epsilon in it is a scale and shift; what has the root of a moment of its own input is a
batch norm only if that is taken over the batch: LayerNorm, GroupNorm, InstanceNorm and RMSNorm take theirs within.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bninspect.formats import algebra, batch_moments
from bninspect.formats.algebra import AffineStep, Leaf, Polynomial, Root
from bninspect.formats.batch_moments import BatchRoot
from bninspect.formats.torch import exported_moments
from bninspect.formats.torch.exported_graph import DEPTH, ExportedCall
from bninspect.formats.torch.exported_program import ExportedProgram
from bninspect.records import Form

_VIEWED = """
_to_copy _unsafe_view alias broadcast_in_dim clone contiguous convert_element_type detach detach_ expand expand_copy
lift_fresh_copy reshape slice squeeze to type_as unsqueeze view
"""
_VIEWS = frozenset(_VIEWED.split())
_ORDERED = "as_strided cat flatten flip permute repeat roll select t tile transpose unflatten"
_MOVED = frozenset(_ORDERED.split())
"""What returns numbers of a parameter in another order."""
_KINDS = {"add": "add", "sub": "sub", "subtract": "sub", "rsub": "rsub", "mul": "mul", "multiply": "mul"}
_KINDS |= {"div": "div", "divide": "div", "true_divide": "div", "neg": "neg", "negative": "neg"}
_ROOTS = {"sqrt": 1, "rsqrt": -1}
_MOMENTS = frozenset(("var", "var_mean", "std", "std_mean"))
_LONGEST = 8


@dataclass(frozen=True, eq=False)
class PiecedNorm:
    """A batch norm in single operators."""

    calls: tuple[ExportedCall, ...]
    """From x to y."""
    place: int
    """Which argument of the first call is x."""
    x: str
    parameters: Mapping[str, str]
    """What the graph calls each, by its standard name."""
    axis: int
    form: Form
    normalisation: algebra.Normalisation


@dataclass(frozen=True, eq=False)
class Pieces:
    """What a program holds of batch norms that are taken apart."""

    norms: tuple[PiecedNorm, ...]
    by_batch: tuple[tuple[ExportedCall, BatchRoot], ...]
    """Roots of a variance that is taken over the batch, by which data is divided."""
    loose: tuple[tuple[ExportedCall, str], ...]
    """Roots of a stored variance and epsilon that are in none of these, and what the graph calls the variance."""


@dataclass(frozen=True, eq=False)
class _PieceStep(AffineStep):
    call: ExportedCall
    place: int
    operand: str
    """What it takes beside its data; empty for a number."""


def search(program: ExportedProgram) -> Pieces:
    """Return what is taken apart in a program, at any depth."""
    if not any(_kind(call) in {"sqrt", "rsqrt", "pow", *_MOMENTS} for call in program.calls):
        return Pieces((), (), ())
    expressions = _PieceExpressions(program)
    norms: dict[str, PiecedNorm] = {}
    for call in program.calls:
        found = expressions.norm(call)
        if found is not None:
            # With its gamma or beta it goes on where it seemed to end.
            for inner in found.calls[:-1]:
                norms.pop(inner.name, None)
            norms[call.name] = found
    used = {norm.normalisation.root for norm in norms.values()}
    return Pieces(
        tuple(norms.values()),
        tuple(expressions.by_batch()),
        tuple((call, root.variance.tensor[0]) for call, root in expressions.roots() if root not in used),
    )


def _kind(call: ExportedCall) -> str:
    """Return the name of an operator, whoever's, without the mark of one that works in place."""
    name = call.operation.removeprefix("prims::")
    return name if name.startswith("__") else name.removesuffix("_")


class _PieceExpressions:
    """What the values of a program are as expressions over its parameters."""

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program
        self._known: dict[str, Polynomial] = {
            name: algebra.parameter(Leaf((stored,), (name, 0))) for name, stored in program.stored.items()
        }
        self._steps: dict[str, _PieceStep] = {}
        self._uses = Counter(name for call in program.calls for name in _texts(call.arguments.values()))
        for call in program.calls:
            self._enter(call)

    def norm(self, call: ExportedCall) -> PiecedNorm | None:
        """Return the batch norm that ends with a call."""
        found = algebra.spelt_out(call.outputs[0], self._steps.get, self._uses, _LONGEST) if call.outputs else None
        return None if found is None else self._found(*found)

    def roots(self) -> Iterator[tuple[ExportedCall, Root]]:
        """Yield the roots of a stored variance and epsilon that the program takes, each once."""
        seen: set[Root] = set()
        for call in self._program.calls:
            expression = self._known.get(call.outputs[0]) if call.outputs else None
            symbols = {symbol for monomial in expression or () for symbol, _ in monomial if isinstance(symbol, Root)}
            for root in symbols - seen:
                if root.epsilon:
                    seen.add(root)
                    yield call, root

    def by_batch(self) -> Iterator[tuple[ExportedCall, BatchRoot]]:
        """Yield each root of a variance over the batch by which data is divided."""
        calls = {call.name: call for call in self._program.calls}
        for root in batch_moments.batch_roots(exported_moments.moment_graph(self._program, _kind)):
            if not self._program.is_of_samples(root.x):
                yield calls[root.name], root

    def _found(self, steps: list[_PieceStep], found: algebra.Normalisation) -> PiecedNorm | None:
        first = steps[0]
        rank = len(self._program.shape(first.x))
        if any(leaf.tensor[0] not in self._program.stored for leaf in found.parameters.values()):
            return None
        long = {axis for step in steps if step.operand for axis in self._long(step.operand)}
        if len(long) > 1 or not rank:
            return None
        return PiecedNorm(
            tuple(step.call for step in steps),
            first.place,
            first.x,
            {name: leaf.tensor[0] for name, leaf in found.parameters.items()},
            (rank + long.pop()) if long else 1,
            algebra.form(steps, found),
            found,
        )

    def _long(self, name: str) -> set[int]:
        """Return the axes, counted from the end, along which a parameter has several numbers, not one repeated."""
        spread: list[tuple[list[int], int]] = []
        while len(spread) < DEPTH and (call := self._program.producers.get(name)) and _kind(call) == "broadcast_in_dim":
            spread.append((call.arguments["broadcast_dimensions"], len(self._program.shape(name))))
            name = call.arguments["a"]
        shape = self._program.shape(name)
        long = {place - len(shape) for place, length in enumerate(shape) if length != 1}
        for axes, rank in reversed(spread):
            long = {axes[axis] - rank for axis in long}
        return long

    def _enter(self, call: ExportedCall) -> None:
        kind = _kind(call)
        given = list(call.arguments.values())
        if not call.outputs or not given:
            return
        first = self._of(given[0])
        found: Polynomial | None = None
        if kind in _VIEWS:
            found = first
        elif kind in _MOVED and (given := list(_texts(given))) and all(name in self._known for name in given):
            found = algebra.parameter(Leaf(tuple(given), (call.outputs[0], 0)))
        elif kind in _ROOTS and first is not None:
            found = algebra.root(first, _ROOTS[kind])
        elif kind == "reciprocal" and first is not None:
            found = algebra.invert(first)
        elif kind == "pow" and first is not None and (exponent := self._exponent(call)):
            found = algebra.root(first, exponent)
        elif kind in _KINDS:
            found = self._arithmetic(call, _KINDS[kind])
        if found is not None:
            self._known[call.outputs[0]] = found

    def _arithmetic(self, call: ExportedCall, kind: str) -> Polynomial | None:
        given = list(call.arguments.values())[:2]
        if kind == "neg":
            given, kind = [0.0, given[0]], "sub"
        elif kind == "rsub":
            given, kind = given[::-1], "sub"
        if len(given) < 2 or call.arguments.get("alpha", 1) != 1 or call.arguments.get("rounding_mode") is not None:
            return None
        left, right = (self._of(one) for one in given)
        if left is not None and right is not None:
            return algebra.combined(kind, left, right)
        if left is None and right is None:
            return None
        data = 0 if left is None else 1
        constant = right if left is None else left
        mapped = None if constant is None else algebra.mapped(kind, data, constant)
        if mapped is not None and isinstance(given[data], str):
            place = list(call.arguments.values()).index(given[data])
            operand = given[1 - data]
            name = operand if isinstance(operand, str) else ""
            self._steps[call.outputs[0]] = _PieceStep(given[data], *mapped, call, place, name)
        return None

    def _of(self, given: Any) -> Polynomial | None:
        if isinstance(given, bool):
            return None
        return algebra.number(float(given)) if isinstance(given, (int, float)) else self._known.get(str(given))

    def _exponent(self, call: ExportedCall) -> int:
        """Return 1 for a root and -1 for the inverse of one, that a power is; 0 for all else."""
        exponent = call.arguments.get("exponent") if _kind(call) == "pow" else None
        return {0.5: 1, -0.5: -1}.get(exponent, 0) if isinstance(exponent, float) else 0


def _texts(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _texts(value)
