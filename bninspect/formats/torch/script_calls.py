"""Every call of a batch norm that the methods of a TorchScript module make, with what it is given.

The source is followed from `forward` on: into the methods of the modules in it and into functions, with what each is
given. What is a number that is computed as the model runs is UNKNOWN. Where a condition is, both branches are followed,
and the body of a loop once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bninspect.errors import UnsafeFile
from bninspect.formats.encodings.pickle_opcodes import Instance
from bninspect.formats.torch import script_pieces
from bninspect.formats.torch.norm_operators import OPERATORS
from bninspect.formats.torch.script_pieces import OfBatch, ScriptConstant, ScriptRoot
from bninspect.formats.torch.script_sources import ScriptSources

MOST_CALLS = 200_000
DEEPEST = 60
"""Methods that call each other. TorchScript has no recursion."""


class _Unknown:
    """What is known only as the model runs."""


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class _Dotted:
    name: str


@dataclass(frozen=True, eq=False)
class _Bound:
    of: Any
    name: str


@dataclass(frozen=True, eq=False)
class ScriptCall:
    """A call of an operator that is a batch norm."""

    operator: str
    arguments: Mapping[str, Any]
    """By the names of `NormOperator.arguments`: tensors of the pickle, constants, numbers, None or UNKNOWN."""
    where: str
    """The method or function that makes it."""
    module: Instance | None
    """Whose method makes it, or calls the function that does."""
    line: int
    """Of the source of that method."""


@dataclass(eq=False)
class ScriptFollower:
    """Follows methods and takes down what they call.

    Args:
        sources: of the file.
        label: the file, for errors.
    """

    sources: ScriptSources
    label: str
    calls: list[ScriptCall] = field(default_factory=list)
    roots: list[tuple[str, ScriptRoot]] = field(default_factory=list)
    """Roots of variances in single operators, and the methods that take them."""
    _uses: dict[int, set[str]] = field(default_factory=dict)
    """What is done with each root, by its identity."""
    _entered: set[int] = field(default_factory=set)
    _count: int = 0
    _depth: int = 0
    _module: Instance | None = None
    _line: int = 0
    _functions: int = 0
    """Functions that were entered since the method of the module."""

    def follow(self, root: Instance) -> None:
        """Follow all methods of a module, `forward` first. Raises UnsafeFile for a source without end."""
        known = self.sources.classes.get(root.class_name)
        methods = known.methods if known is not None else {}
        for name in sorted(methods, key=lambda name: name != "forward"):
            if id(methods[name]) not in self._entered:
                self._module = root
                try:
                    self._run(methods[name], [root], {}, name)
                except RecursionError as error:
                    raise self._endless("an expression is nested too deeply") from error

    def dividing(self) -> Iterator[tuple[str, ScriptRoot]]:
        """Yield the roots, but for those that nothing is normalised by.

        A root of a batch that goes into a mean alone is a feature; by that of a stored variance a kernel may be scaled,
        which is undone behind the convolution.
        """
        for where, root in self.roots:
            uses = self._uses.get(id(root), set()) - {""}
            feature = isinstance(root.variance, OfBatch) and uses and uses <= _REDUCING
            if not feature and uses != {script_pieces.KERNEL, script_pieces.UNDONE}:
                yield where, root

    def _endless(self, why: str) -> UnsafeFile:
        return UnsafeFile(f"{self.label} is too large", why=why)

    def _run(self, function: ast.FunctionDef, given: Sequence[Any], named: Mapping[str, Any], where: str) -> Any:
        self._count += 1
        if self._count > MOST_CALLS or self._depth > DEEPEST:
            raise self._endless(f"over {MOST_CALLS:,} calls, or {DEEPEST} within each other")
        self._entered.add(id(function))
        names = [argument.arg for argument in function.args.args]
        values = dict.fromkeys(names, UNKNOWN)
        for name, default in zip(reversed(names), reversed(function.args.defaults), strict=False):
            values[name] = self._value(default, {}, where)
        values |= dict(zip(names, given, strict=False))
        values |= named
        self._depth += 1
        found = self._body(function.body, values, where)
        self._depth -= 1
        return found[0] if found else None

    def _body(self, body: Sequence[ast.stmt], values: dict[str, Any], where: str) -> tuple[Any] | None:
        """Follow statements; return what they return, in a tuple, or None if they go on."""
        for statement in body:
            if isinstance(statement, ast.Return):
                return (None if statement.value is None else self._value(statement.value, values, where),)
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
                found = self._value(statement.value, values, where)
                for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                    _assign(target, found, values)
            elif isinstance(statement, ast.Expr):
                self._value(statement.value, values, where)
            elif isinstance(statement, ast.If):
                returned = self._branches(statement, values, where)
                if returned is not None:
                    return returned
            elif isinstance(statement, (ast.For, ast.While)):
                if isinstance(statement, ast.For):
                    _assign(statement.target, UNKNOWN, values)
                self._value(statement.iter if isinstance(statement, ast.For) else statement.test, values, where)
                self._body(statement.body, values, where)
            elif isinstance(statement, ast.With):
                returned = self._body(statement.body, values, where)
                if returned is not None:
                    return returned
        return None

    def _branches(self, statement: ast.If, values: dict[str, Any], where: str) -> tuple[Any] | None:
        condition = self._value(statement.test, values, where)
        if isinstance(condition, bool):
            return self._body(statement.body if condition else statement.orelse, values, where)
        other = dict(values)
        first = self._body(statement.body, values, where)
        second = self._body(statement.orelse, other, where)
        if first is not None and second is None:
            values.clear()
            values.update(other)  # the first branch has left; what goes on is the second
        elif second is None:
            for name in values.keys() | other.keys():
                values[name] = _agreed(values.get(name, UNKNOWN), other.get(name, UNKNOWN))
        if first is not None and second is not None:
            return (_agreed(first[0], second[0]),)
        return None

    def _value(self, node: ast.expr, values: Mapping[str, Any], where: str) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return values.get(node.id, _Dotted(node.id))
        if isinstance(node, ast.Attribute):
            return self._attribute(self._value(node.value, values, where), node.attr)
        if isinstance(node, ast.Call):
            return self._call(node, values, where)
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(self._value(part, values, where) for part in node.elts)
        if isinstance(node, ast.IfExp):
            condition = self._value(node.test, values, where)
            if isinstance(condition, bool):
                return self._value(node.body if condition else node.orelse, values, where)
            return _agreed(self._value(node.body, values, where), self._value(node.orelse, values, where))
        parts = [self._value(part, values, where) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return _computed(node, parts)

    def _attribute(self, base: Any, name: str) -> Any:
        if isinstance(base, _Dotted):
            return ScriptConstant(name) if base.name == "CONSTANTS" else _Dotted(f"{base.name}.{name}")
        if isinstance(base, Instance):
            if name in base.state:
                return base.state[name]
            known = self.sources.classes.get(base.class_name)
            if known is not None and name in known.methods:
                return _Bound(base, name)
            return known.constants.get(name, UNKNOWN) if known is not None else UNKNOWN
        return _Bound(base, name)

    def _call(self, node: ast.Call, values: Mapping[str, Any], where: str) -> Any:
        if not self._functions:
            self._line = node.lineno
        called = self._value(node.func, values, where)
        given = [self._value(part, values, where) for part in node.args]
        named = {part.arg: self._value(part.value, values, where) for part in node.keywords if part.arg}
        if isinstance(called, _Bound):
            if not isinstance(called.of, Instance):
                return self._operator(called.name, [called.of, *given], named, where)
            method = self.sources.classes[called.of.class_name].methods[called.name]
            before = self._module, self._line, self._functions
            self._module, self._functions = called.of, 0
            found = self._run(method, [called.of, *given], named, f"{called.of.class_name}.{called.name}")
            self._module, self._line, self._functions = before
            return found
        if not isinstance(called, _Dotted):
            return UNKNOWN
        if called.name in self.sources.functions:
            self._functions += 1
            found = self._run(self.sources.functions[called.name], given, named, called.name)
            self._functions -= 1
            return found
        namespace, _, name = called.name.partition(".")
        if namespace == "torch":
            return self._operator(name, given, named, where)
        if namespace == "ops":
            return self._operator(name.replace(".", "::").removeprefix("aten::"), given, named, where)
        if called.name == "getattr" and len(given) == 2 and isinstance(given[1], str):
            return self._attribute(given[0], given[1])
        if called.name in {"annotate", "unchecked_cast"} and len(given) == 2:
            return given[1]
        return given[0] if called.name == "bool" and given and isinstance(given[0], bool) else UNKNOWN

    def _operator(self, name: str, given: Sequence[Any], named: Mapping[str, Any], where: str) -> Any:
        if name in OPERATORS:
            names = OPERATORS[name].arguments
            if len(given) > 3 and isinstance(given[3], bool):
                names = names[:3] + names[5:]  # the overload without running statistics
            arguments = {**dict(zip(names, given, strict=False)), **named}
            self.calls.append(ScriptCall(name, arguments, where, self._module, self._line))
            return UNKNOWN
        if name in {"__is__", "__isnot__"} and len(given) == 2 and given[1] is None:
            known = given[0] is None or not isinstance(given[0], _Unknown)
            return (given[0] is None) == (name == "__is__") if known else UNKNOWN
        if name == "__not__" and given and isinstance(given[0], bool):
            return not given[0]
        if name in {"alias", "contiguous", "detach", "_unwrap_optional", "prim::unchecked_cast"} and given:
            return given[0]
        for one in given:
            if isinstance(one, ScriptRoot):
                self._uses.setdefault(id(one.root), set()).add(script_pieces.use(name, given, one))
        found = script_pieces.value(name, given, UNKNOWN)
        if isinstance(found, ScriptRoot) and not any(isinstance(one, ScriptRoot) for one in given):
            self.roots.append((where, found))
        return found


_REDUCING = frozenset(("mean", "sum"))


def _computed(node: ast.expr, parts: list[Any]) -> Any:
    """Return an element of a tuple, or the opposite of a number or a condition; of all else UNKNOWN."""
    if isinstance(node, ast.Subscript):
        base, place = parts
        fits = isinstance(base, tuple) and type(place) is int and -len(base) <= place < len(base)
        return base[place] if fits else UNKNOWN
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and isinstance(parts[0], bool):
        return not parts[0]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and type(parts[0]) in (int, float):
        return -parts[0]
    return UNKNOWN


def _assign(target: ast.expr, found: Any, values: dict[str, Any]) -> None:
    if isinstance(target, ast.Name):
        values[target.id] = found
    elif isinstance(target, (ast.Tuple, ast.List)):
        parts = found if isinstance(found, tuple) and len(found) == len(target.elts) else (UNKNOWN,) * len(target.elts)
        for name, part in zip(target.elts, parts, strict=True):
            _assign(name, part, values)


def _agreed(one: Any, other: Any) -> Any:
    same = one is other or (isinstance(one, (bool, int, float, str)) and type(one) is type(other) and one == other)
    return one if same else UNKNOWN
