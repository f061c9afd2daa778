"""HTML and SVG from functions. A plain text is always escaped: only what `element` returned is taken as it is."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from bninspect.safe_text import printable


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = str | Iterable["Child"] | None
Attribute: TypeAlias = str | int | float | bool | None

_VOID = {"input", "meta", "link", "br", "hr", "path", "line", "rect"}


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element. `class_` and `text_anchor` stand for `class` and `text-anchor`; None leaves one out."""
    start = "".join((tag, *(_attribute(name, value) for name, value in attributes.items())))
    if tag in _VOID:
        return Markup(f"<{start}/>")
    return Markup(f"<{start}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Markup:
    """Return children one after the other, texts escaped."""
    return Markup("".join(map(_one, children)))


def _one(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return escape(child) if isinstance(child, str) else joined(*child)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def code(name: str, limit: int = 200) -> Markup:
    """Return a name from a file."""
    return element("code", printable(name, limit))


def table(head: Iterable[Child], rows: Iterable[Iterable[Child]], *, caption: str, class_: str | None = None) -> Markup:
    """Return a table whose first cell in each row is the row's heading."""
    body = [element("tr", _cells(row)) for row in rows]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", [element("th", cell, scope="col") for cell in head])),
            element("tbody", body),
        ),
        class_=f"scroll {class_}" if class_ else "scroll",
    )


def _cells(row: Iterable[Child]) -> list[Markup]:
    first, *others = row
    return [element("th", first, scope="row"), *(element("td", cell) for cell in others)]


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Return a list of names and values."""
    return element("dl", [element("div", element("dt", name), element("dd", value)) for name, value in pairs])
