"""The page: verdict and coverage first, then the models, then what they ran on.

It holds everything it needs. A content-security policy in it forbids all else, scripts and requests above all; under
a stricter one of the server, which takes the style sheet away, everything is still there to read.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import PurePath

from bninspect.records import ModelReport, Report, Status
from bninspect.reports import counts, words
from bninspect.reports.exports_table import ExportsTable, tables
from bninspect.reports.html import model as model_part
from bninspect.reports.html import page_budget, rerun, rules, why
from bninspect.reports.html.element import Child, Markup, code, element, facts, table
from bninspect.safe_text import printable

_FIRST = (Status.FAIL, Status.ERROR, Status.EMPTY, Status.PASS)


def render(report: Report) -> str:
    """Return the report as one HTML file, in ASCII."""
    models = _shown(report)
    top, header, bottom = element("head", head(report)), _header(report), element("footer", footer(report))
    listed = _models(report, models, linked=len(models)) if len(models) > 1 else None
    taken = sum(map(len, (top, bottom, listed or "")))
    sections = page_budget.sections(models, taken)
    main = element(
        "main",
        _models(report, models, linked=len(sections)) if listed else None,
        [_exports(one) for one in tables(report)],
        sections,
        _without(len(models) - len(sections)),
    )
    page = element("html", top, element("body", element("header", header), main, bottom), lang="en")
    return f"<!doctype html>\n{page}\n".encode("ascii", "xmlcharrefreplace").decode("ascii")


def _shown(report: Report) -> list[model_part.Shown]:
    threshold = counts.fail_on(report)
    models = sorted(enumerate(report.models), key=lambda pair: _FIRST.index(pair[1].status))
    return [
        model_part.Shown(model, f"model-{index}", threshold, rerun.command(model, report), len(models) == 1)
        for index, model in models
    ]


def _exports(found: ExportsTable) -> Markup:
    """Return the exports of one model by its layers."""
    rows = [["verdict", *found.verdicts], *([code(name), *marks] for name, marks in found.rows)]
    head = ["layer", *(code(export) for export in found.exports)]
    return table(head, rows, caption=f"{found.model}, held against {len(found.exports)} exports")


def _without(number: int) -> Markup | None:
    if number <= 0:
        return None
    text = f"{words.plural(number, 'model')} of the table have no section here, for want of room: see the JSON report."
    return element("p", text, class_="note")


def head(report: Report) -> Iterator[Markup]:
    """Yield what stands in the head of a page."""
    style = (files("bninspect.reports.html") / "style.css").read_text(encoding="ascii")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    yield element("meta", charset="ascii")
    yield element("meta", http_equiv="Content-Security-Policy", content=policy)
    yield element("meta", name="viewport", content="width=device-width, initial-scale=1")
    yield element("meta", name="color-scheme", content="light dark")
    yield element(
        "title", f"{report.summary.status.value.upper()}: bninspect {printable(report.command)} {_subject(report)}"
    )
    yield element("link", rel="icon", href="data:,")  # or a browser would ask the server for one
    yield element("style", Markup(style))


def _subject(report: Report) -> str:
    if len(report.models) == 1:
        return printable(PurePath(report.models[0].path).name)
    return words.plural(report.summary.models, "model")


def _header(report: Report) -> Iterator[Markup | None]:
    version = printable(report.tool.get("version", ""))
    counted = report.summary
    yield element("p", f"bninspect {version} {printable(report.command)}, page of {_date()}", class_="tool")
    yield element("h1", model_part.badge(counted.status), f" {_subject(report)}")
    if len(report.models) == 1:
        yield model_part.reasons(report.models[0], counts.fail_on(report))
    yield element("p", f"{words.summary(report)}. Exit code {counted.exit_code}.")
    yield model_part.coverage([layer for model in report.models for layer in model.layers])


def _date() -> str:
    """Return the date on which the page is written; SOURCE_DATE_EPOCH makes it the same every time.

    Source: https://reproducible-builds.org/specs/source-date-epoch/.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return f"{now:%Y-%m-%d}"


def _models(report: Report, models: list[model_part.Shown], *, linked: int) -> Markup:
    """Return the table of models, failures first, with links to the first `linked`, and what filters it."""
    was_run = any(layer.status for model in report.models for layer in model.layers)
    rows = [
        (
            element("a", code(shown.model.path, 500), href=f"#{shown.anchor}")
            if place < linked
            else code(shown.model.path, 500),
            model_part.badge(shown.model.status),
            f"{len(shown.model.layers):,}",
            *((_worst(shown.model),) if was_run else ()),
            why.first(shown.model, shown.threshold)
            or printable((shown.model.runtime if was_run else shown.model.format) or "-"),
        )
        for place, shown in enumerate(models)
    ]
    head = ("model", "verdict", "layers", *(("worst error",) if was_run else ()), "why, or where it ran")
    found = table(head, rows, caption="All models, failures first", class_="status models")
    passed = sum(model.status is Status.PASS for model in report.models)
    return element("section", element("h2", "Models"), narrowing(passed, len(report.models)), found)


def narrowing(passed: int, total: int) -> Markup | None:
    """Return what hides the models that passed: two radio buttons, which the style sheet reads; no script."""
    wrong = total - passed
    if not (passed and wrong):
        return None
    choices = (("show-all", f"all {total:,}"), ("show-wrong", f"{wrong:,} that did not pass"))
    return element(
        "fieldset",
        element("legend", "Show"),
        [
            element(
                "label", element("input", type="radio", name="show", id=name, checked=name == "show-all"), f" {text}"
            )
            for index, (name, text) in enumerate(choices)
        ],
        class_="filter",
    )


def _worst(model: ModelReport) -> str:
    worst = counts.worst_of(model)
    return words.ratio(worst) if worst else "-"


def footer(report: Report) -> Iterator[Markup | None]:
    """Yield what a run ran on, and its options."""
    yield rules.section(report)
    yield element("h2", "Environment")
    yield facts((printable(str(name)), words.message(str(value))) for name, value in report.environment.items())
    rows = [
        (printable(name), words.message(str(option.value)), printable(option.source))
        for name, option in report.options.items()
    ]
    if configured := rerun.configured(report):
        yield element("p", f"Rules of {configured} are in force besides: the commands above need that file.")
    if rows:
        head: tuple[Child, ...] = ("option", "value", "from")
        options = table(head, rows, caption="Options and where they came from")
        yield element("details", element("summary", "Options"), options)
    if any(layer.comparisons for model in report.models for layer in model.layers):
        yield element("h2", "How to read this")
        yield element(
            "p",
            "Every value that the runtime computed is compared with ",
            element("code", words.FORMULA),
            ", computed by hand from the parameters in the file. The error is given as a multiple of the rounding bound"
            " that is proven for the arithmetic of the runtime: up to 1 is rounding, beyond 1 is a mismatch.",
        )
        yield element(
            "p",
            element("b", "In the model"),
            ": what each layer returned while the model ran. ",
            element("b", "The layer run alone"),
            ": what it returned for inputs far outside the usual; there outputs are large, and so are differences"
            " that are rounding.",
        )
