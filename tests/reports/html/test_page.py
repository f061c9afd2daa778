"""The page holds everything it needs and nothing else, whatever is in the report."""

from __future__ import annotations

import html as html_text
import re
import shlex
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from helpers.any_reports import MODELS, reports
from helpers.layers import frozen, layer, observation
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.inspection.description import describe
from bninspect.records import BatchNorm, Evidence, ModelReport, Option, Report, Run, Status, outcome
from bninspect.reports import html
from bninspect.reports.html import page_budget
from bninspect.safe_text import printable
from bninspect.settings import EpsilonRule, Settings
from bninspect.verdicts.layers import Judge

RUN = Run("keras 3.15.1", Evidence.MODEL)
VOID = {"input", "meta", "link", "path", "line", "rect"}
PLAIN = """head title style body header main footer section h1 h2 h3 h4 p b code pre span div ul li dl dt dd table
    caption thead tbody tr td summary figure figcaption fieldset legend label"""
ATTRIBUTES = {
    "html": {"lang"},
    "meta": {"charset", "name", "content", "http-equiv"},
    "link": {"rel", "href"},
    "a": {"href"},
    "th": {"scope"},
    "details": {"open"},
    "svg": {"role", "viewbox", "width", "height", "font-size", "fill", "preserveaspectratio"},
    "path": {"d", "fill", "fill-opacity"},
    "line": {"x1", "y1", "x2", "y2", "stroke", "stroke-width", "stroke-dasharray"},
    "rect": {"x", "y", "width", "height", "rx", "fill"},
    "text": {"x", "y", "text-anchor", "fill"},
    "input": {"type", "name", "checked"},
    **{name: set() for name in PLAIN.split()},
}
"""What there may be on a page, besides `class` and `id`."""


class Page(HTMLParser):
    """Checks that tags are closed, of the known kinds and with the known attributes, and gathers the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.inside: list[str] = []
        self.text: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.titles: list[str] = []
        self.feed(text)
        self.close()
        assert self.inside == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        assert {name for name, _ in attributes} <= ATTRIBUTES[tag] | {"class", "id"}, (tag, attributes)
        given = dict(attributes)
        self.ids += [value for name, value in attributes if name == "id" and value]
        self.links += [given["href"] or ""] if "href" in given else []
        self.inside.append(tag)
        if tag == "svg":
            assert given["role"] == "img"

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attributes)
        self.inside.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "code":
            self.text[data] += 1
        if self.inside[-2:] == ["svg", "title"]:
            self.titles.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)


def verified(*stored: BatchNorm, off: float = 0.0) -> Report:
    judge = Judge(stored, Settings())
    for one in stored:
        for observed in ("in-model", "probed"):
            seen = observation(one, observed)
            judge.see(replace(seen, y=seen.y + np.float32(off)))
    layers = judge.reports(RUN)
    status = outcome.model_status(layers, (), "error")
    model = ModelReport("m.h5", "ab12", 9, "keras-h5", "Keras 3.15", status, RUN.runtime, RUN.evidence, layers=layers)
    return outcome.report("verify", [model], options={}, allow_empty=False, running={"device": "CPU"})


def read(*stored: BatchNorm) -> Report:
    layers = tuple(describe(one, ()) for one in stored)
    model = ModelReport("m", None, 9, "npz", "", outcome.model_status(layers, (), "error"), layers=layers)
    return outcome.report("inspect", [model], options={}, allow_empty=False, running={})


def wide(channels: int, **changes: Any) -> BatchNorm:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {name: frozen(rng.normal(size=channels)) for name in ("gamma", "beta", "moving_mean")}
    return layer(**{**arrays, "moving_variance": frozen(rng.lognormal(size=channels)), **changes})


@settings(max_examples=50)
@given(models=st.lists(MODELS, max_size=2))
def test_any_report_is_a_whole_page_of_known_tags(models: list[ModelReport]) -> None:
    text = html.render(outcome.report("verify", models, options={}, allow_empty=False, running={}))
    assert text.isascii()
    page = Page(text)
    assert len(page.titles) == page.tags["svg"]
    assert all(len(title) > 5 for title in page.titles)
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= {*page.ids, "data:,"}


@settings(max_examples=50)
@given(report=reports())
def test_names_are_on_the_page_as_they_are(report: Report) -> None:
    page = Page(html.render(report))
    for model in report.models:
        assert page.text[printable(model.path, 500)] >= 1
        for one in model.layers:
            assert page.text[printable(one.name)] >= 1 or not one.name


def test_it_asks_for_nothing_and_runs_nothing() -> None:
    text = html.render(verified(layer()))
    assert "script" not in Page(text).tags
    assert re.findall(r"https?:", text) == []
    assert re.findall(r"url\(|@import|xlink|\bon[a-z]+=|style=", text) == []
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src &#x27;none&#x27;; style-src &#x27;sha256-")


def test_the_page_says_what_was_proved_found_and_computed() -> None:
    report = verified(layer(), off=0.5)
    text = html.render(report)
    worst = report.models[0].layers[0].comparisons[0].worst
    assert worst is not None
    assert worst.expected is not None
    for words in (
        "FAIL",
        "0 of 1 layer verified in keras 3.15.1",
        "120 values",
        "<b>1</b> mismatch",
        "BN301",
        "60 of 60 values in the model are over the rounding limit",
        f"runtime  {worst.actual:.9g}",
        f"= {worst.expected:.9g}",
        "The cause",
        "moving_variance by channel, log axis, dashed: epsilon 0.001",
        "error / bound by channel, in the model",
        "hint: hand epsilon on with the parameters",
        "CPU",
    ):
        assert words in text, words
    cells = re.findall(r"<tr><th scope=\"row\">(\d)</th><td>[\d.e+]+</td><td>([\d.-]+)</td>", text)
    assert sorted(cells) == [("0", "1.5"), ("1", "-0.5"), ("2", "2")]


def test_two_thousand_channels_are_light_and_keep_their_spike() -> None:
    gamma = np.ones(2000, np.float32)
    gamma[1234] = 99.0
    mean = np.zeros(2000, np.float32)
    mean[7] = np.nan
    text = html.render(read(wide(2000, gamma=frozen(gamma), moving_mean=frozen(mean))))
    assert len(text) < 40_000
    assert "gamma along 2,000 channels: lowest 1 in channels 0 to 15, highest 99 in channels 1232 to 1247" in text
    means = "moving_mean along 2,000 channels: lowest 0 in channels 0 to 15, highest 0 in channels 0 to 15"
    assert f"{means}; not finite in channels 0 to 15" in text


def failing_model(good: int) -> Report:
    """Return a report of a model whose last layer fails."""
    layers = [replace(layer(), name=f"good{n}") for n in range(good)]
    bad = layer("bad")
    report = verified(*layers, bad)
    wrong = verified(bad, off=1.0).models[0].layers[0]
    model = report.models[0]
    changed = replace(model, layers=(*model.layers[:-1], wrong), status=outcome.model_status([wrong], (), "error"))
    return replace(report, models=(changed,))


def test_a_page_without_room_shows_the_failing_layer_in_detail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_budget, "MOST_FOR_PASSES", 0)
    text = html.render(failing_model(3))
    assert "3 layers without details" in text
    assert re.findall(r'<details[^>]*class="layer"><summary><h3><code>(\w+)</code>', text) == ["bad"]
    assert re.findall(r'<tr><th scope="row">(?:<a[^>]*>)?<code>(\w+)</code>', text) == [
        "bad",
        "good0",
        "good1",
        "good2",
    ]


def test_the_cause_stands_before_everything_else() -> None:
    stored = layer()
    judge = Judge([stored], Settings())
    judge.see(observation(replace(stored, gamma=frozen(np.ones(3, np.float32))), "in-model"))
    layers = judge.reports(RUN)
    explanation = layers[0].explanation
    assert explanation is not None
    assert explanation.causes
    model = ModelReport("m.h5", None, 9, "keras-h5", "Keras", Status.FAIL, RUN.runtime, RUN.evidence, layers=layers)
    report = outcome.report("verify", [model], options={}, allow_empty=False, running={})
    text = html.render(report)
    body = re.sub(r"<[^>]*>", " ", text[text.index("<body>") :])
    cause = html_text.escape(explanation.causes[0].sentence)
    assert body.index(cause) < body.index("1 model:") < body.index("Against the formula")


@pytest.mark.parametrize("models", [60, 1000])
def test_a_page_of_many_models_is_below_a_megabyte(models: int) -> None:
    failing, passing = (
        failing_model(2).models[0],
        verified(*(replace(layer(), name=f"bn{n}") for n in range(9))).models[0],
    )
    every = [replace(failing if n % 9 == 8 else passing, path=f"models/{n:04}.h5") for n in range(models)]
    text = html.render(outcome.report("verify", every, options={}, allow_empty=False, running={}))
    assert len(text) < 1_000_000
    page = Page(text)
    assert all(page.text[model.path] for model in every)
    shown = re.findall(r'<details( open)?[^>]* class="model (\w+)"', text)
    assert {status for opened, status in shown if opened} == {"fail"}
    assert [status for _, status in shown] == sorted(status for _, status in shown)
    left = models - len(shown)
    assert (f"{left:,} models of the table have no section here" in text) is (left > 0)


def test_models_that_passed_can_be_hidden_without_a_script() -> None:
    passing, failing = verified(layer()).models[0], failing_model(1).models[0]
    both = html.render(outcome.report("verify", [passing, failing], options={}, allow_empty=False, running={}))
    assert re.findall(r'<input type="radio" name="show" id="([a-z-]+)"( checked)?', both) == [
        ("show-all", " checked"),
        ("show-wrong", ""),
    ]
    one = html.render(outcome.report("verify", [passing, passing], options={}, allow_empty=False, running={}))
    assert "<input" not in one


def test_every_rule_that_is_named_has_its_manual_page_there() -> None:
    text = html.render(failing_model(1))
    assert 'href="#rule-BN301"' in text
    assert 'id="rule-BN301"' in text


def test_the_page_says_how_to_make_it_again() -> None:
    options = {
        "layer": Option(["block*"], "command line"),
        "epsilon": Option([EpsilonRule("*/bn", 1e-3)], "pyproject.toml"),
        "input_shape": Option({"": (1, 8)}, "environment"),
        "trust": Option(value=True, source="command line"),
        "seed": Option(0, "default"),
        "jobs": Option(4, "command line"),
        "ignores": Option([{"rule": "BN113"}], "pyproject.toml"),
    }
    model = replace(verified(layer()).models[0], path="a model.h5")
    text = html.render(outcome.report("verify", [model], options=options, allow_empty=False, running={}))
    again = re.search(r"again:</p><pre>(.*?)</pre>", text)
    assert again
    assert shlex.split(html_text.unescape(again[1])) == [
        *("bninspect", "verify", "a model.h5", "--layer", "block*", "--epsilon", "*/bn=0.001"),
        *("--input-shape", "1,8", "--trust"),
    ]
    assert "Rules of pyproject.toml are in force besides" in text


def test_the_date_can_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert "page of 1970-01-02" in html.render(verified(layer()))
