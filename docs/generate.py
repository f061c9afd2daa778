"""Writes the pages of docs/reference, and the table of conventions, from what the program says of itself.

    python docs/generate.py

A test fails when a page is not what this writes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
_WIDTH = 100
_NOTE = "This page is made by `python docs/generate.py`. Change what it is made from, not the page."

PUBLIC = (
    ("bninspect", ("verify", "inspect", "load", "Settings")),
    ("bninspect.testing", ("assert_batchnorm_close",)),
    ("bninspect.callbacks", ("BatchNormMonitor", "Limits")),
    ("bninspect.training_drift", ("State",)),
    ("bninspect.errors", ("BninspectError",)),
)
"""What a program may import, by module. The records are in the page of the report."""


def commands() -> str:
    """Return the page of the commands: the help of each."""
    import click

    from bninspect.cli import COMMANDS, bninspect

    how: dict[str, Any] = {"terminal_width": _WIDTH, "max_content_width": _WIDTH, **bninspect.context_settings}
    whole = click.Context(bninspect, info_name="bninspect", **how)
    parts = ["# Commands", _NOTE, _help(bninspect, whole)]
    for name in COMMANDS:
        command = bninspect.get_command(whole, name)
        assert command is not None, name
        parts += [f"## `bninspect {name}`", _help(command, click.Context(command, whole, name, **how))]
    return _page(parts)


def _help(command: Any, context: Any) -> str:
    return _fence("text", command.get_help(context))


def formats() -> str:
    """Return the page of what is read, run, exported and reported."""
    from bninspect.exporters import EXPORTERS
    from bninspect.formats import FORMATS
    from bninspect.reports import REPORTS
    from bninspect.runtimes import RUNTIMES

    runs: dict[str, list[str]] = {}
    for runtime in RUNTIMES:
        for name in runtime.formats:
            runs.setdefault(name, []).append(runtime.name)
    reads = [
        (f"`{one.name}`", one.title, _codes(one.suffixes), ", ".join(runs.get(one.name, [])) or "each layer alone")
        for one in FORMATS
    ]
    return _page(
        [
            "# Formats, runtimes, exports and reports",
            _NOTE,
            "## Formats that are read",
            "Reading needs no framework. The last column names the runtimes that may load the whole model.",
            *_table(("format", "what it is", "endings", "run by"), reads),
            "## Runtimes",
            *_table(
                ("runtime", "what it is", "package", "install"),
                [(f"`{one.name}`", one.title, f"`{one.package}`", f"`{one.install}`") for one in RUNTIMES],
            ),
            "## Exports",
            *_table(("format", "what it is"), [(f"`{one.name}`", one.title) for one in EXPORTERS]),
            "## Reports",
            "For `-f` and `-o`: " + ", ".join(f"`{name}`" for name in REPORTS) + ".",
        ]
    )


def conventions() -> str:
    """Return the page of what the frameworks do differently."""
    from bninspect.arithmetic.conventions import CLAMP, CONVENTIONS

    rows = [
        (
            one.framework,
            _number(one.epsilon),
            _number(one.momentum),
            f"`{one.written}`",
            "unknown" if one.stored is None else one.stored.value,
            one.single or "unknown",
            one.source,
        )
        for one in CONVENTIONS
    ]
    return _page(
        [
            "# What frameworks do differently",
            _NOTE,
            "The inference formula is the same everywhere: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`. "
            "What goes into it is not. These are defaults; a layer may be built with other values.",
            "- *Epsilon* differs by a factor of 100. It must be the one that the model was trained with.\n"
            "- *Momentum* is written here as Keras writes it: the share of the old value. PyTorch writes the share of "
            "the new one.\n"
            "- *Stored variance* is the estimate that goes into the moving variance. Biased: the sum of squares is "
            "divided by n. Unbiased: by n - 1. Every framework normalises a training batch with the biased one.\n"
            "- *One value* is what becomes of a training batch with one value for each channel, where n - 1 is 0.",
            *_table(("framework", "epsilon", "momentum", "as written", "stored variance", "one value", "source"), rows),
            f"`tf.nn.fused_batch_norm` up to TensorFlow 2.11 used no epsilon below {CLAMP:g}, whatever it was given.",
            "See also [the rules](../rules.md) BN120 to BN122, which look for a foreign convention in a file, and "
            "`bninspect explain --training`, which shows what each framework would store of a batch.",
        ]
    )


def report() -> str:
    """Return the page of the report: every record that it is made of."""
    from bninspect.records import compared, fitted, observed, reported, stored
    from bninspect.records import vocabulary as words
    from bninspect.reports import schema

    trees = [ast.parse(inspect.getsource(module)) for module in (words, stored, observed, compared, fitted, reported)]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    parts = [
        "# The report",
        _NOTE,
        "`-f json`, `-o json=PATH` and `bninspect.verify()` give this one structure; every other format is made from "
        "it. `bninspect schema` prints it as a JSON schema. In JSON a number that is not finite is `null`. Fields may "
        "be added within version 1; none is taken away.",
    ]
    for name in _reached(classes, "Report"):
        parts += [f"## {name}", ast.get_docstring(classes[name]) or "", *_fields(classes[name], classes)]
    assert '"Report"' in schema.text()
    return _page(parts)


def _reached(classes: Mapping[str, ast.ClassDef], first: str) -> list[str]:
    """Return the records that a record is made of, itself first, each before those in it."""
    names = [first]
    for name in names:  # it grows meanwhile
        body = _body(classes[name], classes)
        text = " ".join(ast.unparse(node.annotation) for node in body if isinstance(node, ast.AnnAssign))
        names += [one for one in re.findall(r"\w+", text) if one in classes and one not in names]
    return names


def _body(record: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> list[ast.stmt]:
    """Return the statements of a record, those of the records that it begins with first."""
    inherited = [classes[base.id] for base in record.bases if isinstance(base, ast.Name) and base.id in classes]
    return [statement for each in (*inherited, record) for statement in each.body]


def _fields(record: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> list[str]:
    rows = []
    body = _body(record, classes)
    for node, after in zip(body, [*body[1:], None], strict=True):
        said = _constant(after)
        if isinstance(node, ast.AnnAssign):
            rows.append((f"`{ast.unparse(node.target)}`", f"`{ast.unparse(node.annotation)}`", said))
        elif isinstance(node, ast.Assign):  # a value of an enumeration
            rows.append((f"`{ast.unparse(node.value)[1:-1]}`", "", said))
    if any(kind for _, kind, _ in rows):
        return _table(("field", "type", "meaning"), rows)
    return _table(("value", "meaning"), [(value, said) for value, _, said in rows])


def _constant(node: ast.stmt | None) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return " ".join(str(node.value.value).split()) if is_text else ""  # type: ignore[union-attr]


def library() -> str:
    """Return the page of the library: what may be imported, with signature and docstring."""
    parts = [
        "# Library",
        _NOTE,
        "What a program may import. What it returns is in [the page of the report](report.md).",
    ]
    for module, names in PUBLIC:
        parts.append(f"## `{module}`")
        home = importlib.import_module(module)
        for name in names:
            thing = getattr(home, name)
            parts += [f"### `{name}`", _fence("text", f"{name}{_signature(thing)}\n\n{inspect.getdoc(thing)}")]
            if inspect.isclass(thing) and hasattr(thing, "__dataclass_fields__"):
                source = ast.parse(inspect.getsource(thing)).body[0]
                assert isinstance(source, ast.ClassDef)
                parts += _fields(source, {})
    return _page(parts)


def _signature(thing: Any) -> str:
    if inspect.isclass(thing) and hasattr(thing, "__dataclass_fields__"):
        return "(...)"
    signature = inspect.signature(thing)
    shown, before = [], None
    for one in signature.parameters.values():
        if before is one.POSITIONAL_ONLY and one.kind is not one.POSITIONAL_ONLY:
            shown.append("/")
        if one.kind is one.KEYWORD_ONLY and before is not one.KEYWORD_ONLY:
            shown.append("*")
        stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        default = "" if one.default is one.empty else f" = {one.default!r}"
        # A record of defaults is in a table of its own.
        shown.append(f"{stars}{one.name}: {one.annotation}{default if len(default) < _WIDTH // 4 else ' = ...'}")
        before = one.kind
    return f"({', '.join(shown)}) -> {signature.return_annotation}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _codes(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return ["\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in lines)]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def causes() -> str:
    """Return the page of the causes."""
    return str(runpy.run_path(str(DOCS / "list_causes.py"))["markdown"]())


PAGES: Mapping[str, Callable[[], str]] = {
    "causes.md": causes,
    "reference/commands.md": commands,
    "reference/formats.md": formats,
    "reference/report.md": report,
    "reference/library.md": library,
    "explanation/conventions.md": conventions,
}
"""Each page, by its path in docs/, and what makes it."""


def stale() -> Iterator[str]:
    """Yield the pages that are not what the program says now."""
    for name, make in PAGES.items():
        path = DOCS / name
        if not path.is_file() or path.read_text(encoding="utf-8") != make():
            yield name


def main() -> int:
    """Write the pages that changed."""
    for name in stale():
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
