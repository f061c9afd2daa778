"""The manual: a page per finding, what it means and what to do about it, from the docstrings of what makes them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from bninspect.equivalence import export_findings as of_exports
from bninspect.errors import UsageError
from bninspect.inspection.rules import RULES
from bninspect.safe_text import nearest, printable
from bninspect.statistics import data_findings as of_data
from bninspect.verdicts import change_findings as of_changes
from bninspect.verdicts import runtime_findings as of_runtimes

_WIDTH = 100
_READ_AS = str.maketrans("OIL", "011")
"""Letters that are typed for digits."""


@dataclass(frozen=True)
class Page:
    """The manual page of one finding."""

    code: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The page for a terminal."""
        wrapped = [textwrap.fill(paragraph, _WIDTH) for paragraph in self.paragraphs]
        return "\n\n".join([self.heading, *wrapped]) + "\n"

    @property
    def heading(self) -> str:
        """Its first line."""
        return f"{self.code}: {self.title}"

    @property
    def anchor(self) -> str:
        """How links name its heading in `docs/rules.md`: small letters, no punctuation, hyphens, as GitHub has it."""
        return re.sub(r"[^\w\- ]", "", self.heading.lower()).replace(" ", "-")


@cache
def pages() -> Mapping[str, Page]:
    """Return all pages by code, in their order."""
    every = {**RULES, **of_runtimes.FINDINGS, **of_exports.FINDINGS, **of_data.FINDINGS, **of_changes.FINDINGS}
    return MappingProxyType({code: _page(function.__doc__ or "") for code, function in every.items()})


def page(code: str) -> Page:
    """Return the page of one code, in any case.

    Raises:
        UsageError: there is no such rule.
    """
    found = pages().get(code.strip().upper())
    if found is None:
        near = _nearest(code)
        raise UsageError(
            f"there is no rule {printable(code)}",
            hint=f"bninspect rule {near}" if near else "bninspect rule lists them",
        )
    return found


def require(beginnings: Iterable[str]) -> None:
    """Raise UsageError unless each text is the code of a rule or its beginning: a typo must not loosen a gate."""
    for beginning in beginnings:
        if not beginning or not any(code.startswith(beginning) for code in pages()):
            near = _nearest(beginning)
            raise UsageError(
                f"no rule begins with '{printable(beginning)}'",
                why="rules are chosen by code, such as BN113, or by its beginning, such as BN1",
                hint=f"did you mean {near}?" if near else "bninspect rule lists them",
            )


def _nearest(code: str) -> str:
    return nearest(code.upper().translate(_READ_AS), pages())


def markdown() -> str:
    """Return the whole manual as Markdown, as `docs/rules.md` holds it."""
    parts = ["# Rules", "What `bninspect` may find. Made from the rules' docstrings: `bninspect rule --markdown`."]
    for one in pages().values():
        parts += [f"## {one.heading}", *one.paragraphs]
    return "\n\n".join(parts) + "\n"


def _page(docstring: str) -> Page:
    first, *rest = inspect.cleandoc(docstring).split("\n\n")
    code, _, title = first.partition(": ")
    return Page(code, title.rstrip("."), tuple(" ".join(paragraph.split()) for paragraph in rest))
