"""The page: verdict and coverage first, then the models, then what they ran on.

It holds everything it needs. A content-security policy in it forbids all else, scripts and requests above all; under
a stricter one of the server, which takes the style sheet away, everything is still there to read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import PurePath

from bninspect.records import ModelReport, Report, Status
from bninspect.reports import counts, words
from bninspect.reports.html import model as model_part
from bninspect.reports.html.element import Child, Markup, code, element, facts, joined, table
from bninspect.safe_text import printable

MOST_LAYERS = 300
"""Layers of a page that are shown in detail; some 15 KB each."""
_FIRST = (Status.FAIL, Status.ERROR, Status.EMPTY, Status.PASS)


def render(report: Report) -> str:
    """Return the report as one HTML file, in ASCII."""
    threshold = counts.fail_on(report)
    allowed = _allowance(report, threshold)
    models = sorted(enumerate(report.models), key=lambda pair: _FIRST.index(pair[1].status))
    page = joined(
        element("header", _header(report)),
        element(
            "main",
            _models(models) if len(models) > 1 else None,
            [model_part.section(model, f"model-{index}", threshold, allowed) for index, model in models],
        ),
        element("footer", _footer(report)),
    )
    html = element("html", element("head", _head(report)), element("body", page), lang="en")
    return f"<!doctype html>\n{html}\n".encode("ascii", "xmlcharrefreplace").decode("ascii")


def _allowance(report: Report, threshold: str) -> model_part.Allowed:
    """Return which layers are shown in detail: those that fail first, as far as the page has room."""
    layers = [(not counts.layer_counts(one, model, threshold), one) for model in report.models for one in model.layers]
    chosen = {id(one) for _, one in sorted(layers, key=lambda pair: pair[0])[:MOST_LAYERS]}
    return lambda one: id(one) in chosen


def _head(report: Report) -> Iterator[Markup]:
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
    return words.plural(len(report.models), "model")


def _header(report: Report) -> Iterator[Markup | None]:
    version = printable(report.tool.get("version", ""))
    counted = report.summary
    yield element("p", f"bninspect {version} {printable(report.command)}", class_="tool")
    yield element("h1", model_part.badge(counted.status), f" {_subject(report)}")
    yield element("p", f"{words.summary(report)}. Exit code {counted.exit_code}.")
    yield model_part.coverage([layer for model in report.models for layer in model.layers])


def _models(models: list[tuple[int, ModelReport]]) -> Markup:
    was_run = any(layer.status for _, model in models for layer in model.layers)
    rows = [
        (
            element("a", code(model.path, 500), href=f"#model-{index}"),
            model_part.badge(model.status),
            f"{len(model.layers):,}",
            *((_worst(model),) if was_run else ()),
            f"{model.seconds:.1f} s",
            printable((model.runtime if was_run else model.format) or "-"),
        )
        for index, model in models
    ]
    measured = ("worst error", "took", "runtime") if was_run else ("took", "format")
    head = ("model", "verdict", "layers", *measured)
    found = table(head, rows, caption="All models, failures first", class_="status")
    return element("section", element("h2", "Models"), found)


def _worst(model: ModelReport) -> str:
    worst = counts.worst_of(model)
    return words.ratio(worst) if worst else "-"


def _footer(report: Report) -> Iterator[Markup]:
    yield element("h2", "Environment")
    yield facts((printable(str(name)), words.message(str(value))) for name, value in report.environment.items())
    rows = [
        (printable(name), words.message(str(option.value)), printable(option.source))
        for name, option in report.options.items()
    ]
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
            element("b", "in-model"),
            " is what each layer returned while the model ran. ",
            element("b", "probed"),
            " is each layer alone, on inputs far outside the usual: there outputs are large, and so are differences"
            " that are rounding.",
        )
