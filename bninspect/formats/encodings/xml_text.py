"""XML as a tree of elements, with nothing of XML that could cost more than its bytes or lead out of the file.

A document type, and with it every entity, is refused before it is looked at: entities that name each other grow without
end, and external ones are files and hosts (CWE-611, CWE-776). Expat loads nothing by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from bninspect.errors import DamagedFile, UnsafeFile

MOST_ELEMENTS = 1_000_000
MOST_DEPTH = 64


@dataclass(frozen=True, eq=False)
class XmlElement:
    """One element: its name, attributes, and what is inside it."""

    tag: str
    attributes: dict[str, str]
    children: list[XmlElement] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The characters that stand directly inside it, without the space around them."""
        return "".join(self.pieces).strip()

    def every(self, *path: str) -> Iterator[XmlElement]:
        """Yield the elements that a path of names leads to, in the order of the file."""
        if not path:
            yield self
            return
        for child in self.children:
            if child.tag == path[0]:
                yield from child.every(*path[1:])

    def first(self, *path: str) -> XmlElement | None:
        """Return the first element that a path of names leads to; None if there is none."""
        return next(self.every(*path), None)


def parse(data: bytes) -> XmlElement:
    """Return the root element.

    Raises:
        UnsafeFile: it has a document type, or more or deeper elements than a model needs.
        DamagedFile: it is not XML.
    """
    from xml.parsers import expat

    reading = _XmlReading()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.say
    try:
        parser.Parse(data, True)  # noqa: FBT003 - expat takes it by place
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DamagedFile("this is not whole XML", why=str(error), hint="copy or download the file again") from error
    return reading.top.children[0]


def _refuse_doctype(*_: Any) -> NoReturn:
    raise UnsafeFile("this XML has a document type", why="it could define entities, and name other files")


class _XmlReading:
    """The elements that are open."""

    def __init__(self) -> None:
        self.top = XmlElement("", {})
        self._open = [self.top]
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS or len(self._open) > MOST_DEPTH:
            why = f"at most {MOST_ELEMENTS:,} elements are read, {MOST_DEPTH} deep"
            raise UnsafeFile("this XML is too large", why=why)
        element = XmlElement(tag, attributes)
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, _tag: str) -> None:
        self._open.pop()

    def say(self, text: str) -> None:
        self._open[-1].pieces.append(text)
