"""The source text of a TorchScript file, parsed and never compiled: `code/...py`, one file for each of its modules.

It is a part of Python (torch/csrc/jit/serialization/python_print.cpp), which Python's own parser reads. A tree is made
of it, and no code.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.torch.pure_operators import is_pure
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive
    from bninspect.formats.encodings.pickle_opcodes import Instance

CODE_BYTES = 4 << 20
"""Of all files together: a tree takes about 280 times as much (measured). A network of 150 layers has 0.3 MB."""


@dataclass(frozen=True, eq=False)
class ScriptClass:
    """A class of the file."""

    methods: Mapping[str, ast.FunctionDef]
    constants: Mapping[str, Any]
    """Attributes that are the same for all its objects, such as `eps : Final[float] = 0.001`."""


@dataclass(frozen=True, eq=False)
class ScriptSources:
    """Everything that the source says, by dotted names such as `__torch__.torch.nn.modules.batchnorm.BatchNorm2d`."""

    classes: Mapping[str, ScriptClass]
    functions: Mapping[str, ast.FunctionDef]
    code: tuple[str, ...]
    """What does more than compute."""


def read_sources(archive: Archive, folder: str) -> ScriptSources:
    """Return the source of the file.

    Raises:
        DamagedFile: it is not what TorchScript is written in.
        UnsafeFile: it is too large.
    """
    classes: dict[str, ScriptClass] = {}
    functions: dict[str, ast.FunctionDef] = {}
    trees = []
    left = CODE_BYTES
    for name in archive.names():
        if not name.startswith(folder) or not name.endswith(".py"):
            continue
        text = archive.read(name, left)
        left -= len(text)
        tree = _parsed(archive.label, name, text)
        trees.append(tree)
        module = name.removeprefix(folder).removesuffix(".py").replace("/", ".")
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                classes[f"{module}.{node.name}"] = _class(node)
            elif isinstance(node, ast.FunctionDef):
                functions[f"{module}.{node.name}"] = node
    return ScriptSources(classes, functions, tuple(dict.fromkeys(_acting(trees))))


def _parsed(label: str, name: str, text: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = f"{printable(name)} is not TorchScript: {printable(str(error), 80)}"
        if isinstance(error, (RecursionError, MemoryError)):
            raise UnsafeFile(f"{label} is too large", why=why) from error
        raise DamagedFile(f"{label} is damaged", why=why) from error


def _class(node: ast.ClassDef) -> ScriptClass:
    return ScriptClass(
        {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)},
        {
            part.target.id: part.value.value
            for part in node.body
            if isinstance(part, ast.AnnAssign)
            and isinstance(part.target, ast.Name)
            and isinstance(part.value, ast.Constant)
        },
    )


_BUILT_IN = frozenset(
    [
        "annotate",
        "bool",
        "float",
        "getattr",
        "int",
        "isinstance",
        "len",
        "range",
        "str",
        "unchecked_cast",
        "uninitialized",
    ]
)
_NAMESPACES = ("torch", "ops")
_FOREIGN, _KNOWN = "__torch__.torch.classes.", "__torch__.torch.classes.quantized."
"""Classes that are written in C++, and those that hold no more than parameters."""
_ACTING = frozenset(("from_file", "save", "print", "wait", "to_here", "local_value"))
"""Operators that do more than compute, and so are not names of attributes either: `x.save(path)` calls one."""


def foreign_classes(modules: Mapping[str, Instance]) -> tuple[str, ...]:
    """Return in words the classes of objects in the file that are written in C++, but for those of parameters."""
    names = dict.fromkeys(module.class_name for module in modules.values())
    return tuple(f"class {printable(name)}" for name in names if name.startswith(_FOREIGN) and not _is_known(name))


def _is_known(name: str) -> bool:
    return name.startswith(_KNOWN)


def _acting(trees: list[ast.Module]) -> Iterator[str]:
    """Yield in words whatever is not known to do nothing but compute.

    An operator may be called as `torch.add(x, y)`, as `x.add(y)`, or under a name that it was given before. So it is
    not calls that are looked at but names, wherever they stand.
    """
    own = {name for tree in trees for name in _declared(tree)}
    for tree in trees:
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and id(node) not in inner:
                yield from _acting_chain(node, own)
            elif isinstance(node, ast.Name) and id(node) not in inner and node.id in _NAMESPACES:
                yield f"operation {node.id}"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name not in _BUILT_IN and name not in own:
                    yield f"operation {printable(name)}"


def _acting_chain(node: ast.expr, own: set[str]) -> Iterator[str]:
    """Yield what is wrong with names with dots between them, such as `torch.add` or `self.bn.weight`."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    root = node.id if isinstance(node, ast.Name) else ""
    dotted = ".".join((root, *names))
    if root in _NAMESPACES:
        operator = "::".join(names)
        if len(names) != (1 if root == "torch" else 2) or not is_pure(operator.removeprefix("aten::")):
            yield f"operation {printable(names[-1])}"
    elif root == "__torch__":
        if dotted.startswith(_FOREIGN) and not _is_known(dotted):
            yield f"class {printable(dotted)}"
    elif root != "CONSTANTS":
        acting = (name for name in names if name in _ACTING or not (name in own or is_pure(name)))
        yield from (f"operation {printable(name)}" for name in acting)


def _declared(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file gives: to attributes, methods, functions, parameters and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
