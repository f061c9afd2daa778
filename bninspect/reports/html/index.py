"""A page that lists models, each of which has a page of its own: written as rows come, so that there may be many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bninspect.records import ModelReport, Report
from bninspect.reports import words
from bninspect.reports.html import model as model_part
from bninspect.reports.html import page, why
from bninspect.reports.html.element import code, element, joined
from bninspect.safe_text import printable

_COLUMNS = ("model", "verdict", "layers", "took", "why, or where it ran")


def row(model: ModelReport, href: str, threshold: str) -> str:
    """Return the row of a model whose page is at `href`; `threshold` is the `--fail-on` of the command."""
    return element(
        "tr",
        element("th", element("a", code(model.path, 500), href=href), scope="row"),
        element("td", model_part.badge(model.status)),
        element("td", f"{len(model.layers):,}"),
        element("td", f"{model.seconds:.1f} s"),
        element("td", why.first(model, threshold) or printable(model.runtime or model.format or "-")),
    )


def render(report: Report, rows: Iterable[str], passed: int) -> Iterator[str]:
    """Yield the page in pieces, in ASCII.

    Args:
        report: holds the summary, and need not hold the models.
        rows: of `row`, failures first.
        passed: how many models passed.
    """
    counted = report.summary
    title = element("h1", model_part.badge(counted.status), f" {words.plural(counted.models, 'model')}")
    said = element("p", f"{words.summary(report)}. Exit code {counted.exit_code}.")
    names = element("tr", *(element("th", name, scope="col") for name in _COLUMNS))
    yield _ascii(f'<!doctype html>\n<html lang="en">{element("head", page.head(report))}<body>')
    yield _ascii(element("header", title, said) + "<main><section><h2>Models</h2>")
    yield _ascii(page.narrowing(passed, counted.models) or "")
    yield _ascii(
        f'<table class="status models"><caption>All models, failures first</caption>{element("thead", names)}<tbody>'
    )
    yield from map(_ascii, rows)
    footer = joined(element("footer", page.footer(report)))
    yield _ascii(f"</tbody></table></section></main>{footer}</body></html>\n")


def _ascii(text: str) -> str:
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")
