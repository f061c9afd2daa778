"""Markdown as a parser of CommonMark with tables reads it, which has no part in writing it."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from helpers.any_reports import NASTY, reports
from helpers.layers import layer
from hypothesis import given, settings

from bninspect.errors import DamagedFile
from bninspect.inspection.description import describe
from bninspect.records import Finding, LayerStatus, ModelReport, Report, Severity, Status, outcome
from bninspect.reports import markdown
from bninspect.safe_text import printable

markdown_it = pytest.importorskip("markdown_it")

TAGS = {"h2", "h3", "p", "ul", "li", "strong", "em", "code", "details", "summary"} | {
    "table", "thead", "tbody", "tr", "th", "td"
}  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.text = ""
        self.inside: list[str] = []
        self.feed(markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.inside.append(tag)
        assert {name for name, _ in attributes} <= {"style"}, attributes
        assert {value for _, value in attributes} <= {"text-align:right"}, attributes

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def report(*models: ModelReport) -> Report:
    return outcome.report("verify", models, options={}, allow_empty=False, running={"device": "CPU"})


def model(path: str, status: Status, *findings: Finding, layers: int = 1) -> ModelReport:
    one = describe(layer(), findings, LayerStatus.VERIFIED)
    return ModelReport(path, None, 9, "keras-h5", "Keras 3", status, "keras 3", layers=(one,) * layers)


def test_the_verdict_then_failures_then_all_models_then_details() -> None:
    bad = Finding("BN102", Severity.ERROR, "moving_variance is negative", {}, "recompute it")
    broken = outcome.broken("broken.h5", DamagedFile("truncated", why="12 of 400 bytes", hint="copy it again"))
    text = markdown.render(report(model("good.h5", Status.PASS), broken, model("bad.h5", Status.FAIL, bad)))
    assert text.startswith("## ⛔ ERROR: bninspect verify\n\n3 models: 1 pass, 1 fail, 1 error; ")
    places = [
        text.index(part)
        for part in (
            "### ❌ FAIL: `bad.h5`",
            "- `bn`: **BN102** moving_variance is negative\n  - hint: recompute it",
            "### ⛔ ERROR: `broken.h5`\n\ntruncated\n\n- why: 12 of 400 bytes\n- hint: copy it again",
            "| ❌ FAIL | `bad.h5` | 1 |",
            "| ⛔ ERROR | `broken.h5` | 0 |",
            "| ✅ PASS | `good.h5` | 1 |",
            "<details><summary><code>bad.h5</code>: 1 layer</summary>",
            "<details><summary>Environment</summary>",
        )
    ]
    assert places == sorted(places)


@settings(max_examples=60)
@given(report=reports())
def test_names_from_files_are_text_and_nothing_else(report: Report) -> None:
    text = markdown.render(report)
    page = Page(text)
    assert set(page.tags) <= TAGS
    assert page.inside == []
    failing = [one for one in report.models if one.status is not Status.PASS]
    assert (page.tags["h2"], page.tags["h3"]) == (1, len(failing))
    assert page.tags["details"] == 1 + sum(bool(one.layers) for one in report.models)
    # One table of models, and one of layers for each model that has some.
    assert page.tags["table"] == page.tags["details"]
    shown = page.text.replace("\u200b", "")
    for one in report.models:
        for name in (one.path, *(each.name for each in one.layers)):
            assert printable(name).strip() in shown


@settings(max_examples=60)
@given(report=reports())
def test_nothing_becomes_a_link_or_a_mention_on_github(report: Report) -> None:
    prose = re.sub(r"<code>.*?</code>|(`+).*?\1", "", markdown.render(report))
    assert not re.search(r"www\.|://|@|&#64;(?!&#8203;)|(?<!&)#\d", prose, re.IGNORECASE)


@pytest.mark.parametrize("nasty", [*NASTY, "a|b`c", "`", "``", " ` ", "|", "\\", "\\|", "&amp;"])
def test_a_name_in_a_cell_stays_in_its_cell(nasty: str) -> None:
    page = Page(f"| a | b |\n|---|---|\n| {markdown.code(nasty)} | {markdown.escaped(printable(nasty))} |\n")
    assert (page.tags["tr"], page.tags["td"]) == (2, 2)
    assert page.tags["code"] == 1
    assert page.text.replace("\u200b", "").split() == f"a b {printable(nasty)} {printable(nasty)}".split()


@pytest.mark.parametrize(("models", "layers"), [(3000, 4), (2, 60_000), (9_000, 0)])
def test_it_is_never_longer_than_github_takes(models: int, layers: int) -> None:
    name = "\N{SNOWMAN}" * 150
    found = [model(f"{number}{name}", Status.FAIL, layers=layers) for number in range(models)]
    text = markdown.render(report(*found))
    assert 500 << 10 < len(text.encode()) <= 900 << 10 or layers == 60_000
    assert text.startswith("## ❌ FAIL")
    assert re.search(r"\*[\d,]+ parts? left out: this summary ends at 900 KiB", text[-200:])
    assert Page(text).inside == []
