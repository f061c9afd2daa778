"""The manual pages of the rules that a page names, at its end: so that its links need no network."""

from __future__ import annotations

from collections.abc import Iterator

from bninspect.records import Report
from bninspect.reports import manual
from bninspect.reports.html.element import Markup, element
from bninspect.safe_text import printable


def address(code: str) -> str | None:
    """Return the link to a rule's manual page; None if the manual has none, as of a report that was edited."""
    return f"#rule-{code}" if code in manual.pages() else None


def section(report: Report) -> Markup | None:
    """Return the manual pages of all rules that a report names; None if it names none."""
    named = sorted(code for code in set(_codes(report)) if code in manual.pages())
    if not named:
        return None
    pages = [manual.pages()[code] for code in named]
    return element("section", element("h2", "Rules"), [_page(page) for page in pages], class_="rules")


def _codes(report: Report) -> Iterator[str]:
    for model in report.models:
        yield from (finding.rule for finding in model.findings)
        yield from (finding.rule for layer in model.layers for finding in layer.findings)


def _page(page: manual.Page) -> Markup:
    body = element("div", [element("p", printable(text, 4000)) for text in page.paragraphs], id=f"rule-{page.code}")
    return element("details", element("summary", element("b", page.code), f" {page.title}"), body, class_="rule")
