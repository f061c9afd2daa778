"""What a notebook shows of a report: the verdict that the report has, and nothing that a name could do."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.any_reports import reports
from hypothesis import given

import bninspect
import bninspect.reports
from bninspect.records import Report
from bninspect.safe_text import printable

TAGS = {"div", "p", "b", "code", "ul", "li", "details", "summary"} | {
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
}


class Fragment(HTMLParser):
    """Takes a fragment apart; every tag is closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1], data))

    def of(self, tag: str) -> list[str]:
        return [word for one, word in self.words if one == tag]


@given(reports())
def test_any_report_is_harmless_and_has_its_verdicts(report: Report) -> None:
    found = Fragment(report._repr_html_())
    assert found.tags <= TAGS
    assert found.attributes <= {"style", "class", "scope"}
    assert sorted(found.of("b")) == sorted(model.status.value.upper() for model in report.models)
    assert f"Exit code {report.summary.exit_code}." in "".join(found.of("p"))
    for model in report.models:
        assert printable(model.path, 500) in found.of("code") or not model.path


@pytest.fixture(scope="module")
def broken(sample_models: Path) -> Report:
    return bninspect.inspect([sample_models / "keras2_digits.h5", sample_models / "broken_nan.h5"])


def test_failures_come_first_with_what_to_do(broken: Report) -> None:
    found = Fragment(broken._repr_html_())
    assert found.of("b") == ["FAIL", "PASS"]
    (said,) = found.of("li")
    assert said.startswith("BN101 error: gamma is not finite in 1 channel")
    assert said.endswith(")")
    # The failing layer, then all four of its model, then those of the other one.
    layers = [layer.name for layer in broken.models[1].layers]
    assert [name for name in found.of("code") if name in layers][:2] == ["batch_normalization_2"] * 2


def test_a_model_shows_itself_too(broken: Report) -> None:
    found = Fragment(broken.models[0]._repr_html_())
    assert found.of("b") == ["PASS"]
    assert "4 batch-norm layers" in found.of("summary")


def test_large_reports_stay_small(broken: Report) -> None:
    model = broken.models[0]
    layers = tuple(replace(model.layers[0], name=f"layer_{number}") for number in range(5000))
    large = replace(broken, models=(replace(model, layers=layers),) * 200)
    html = large._repr_html_()
    assert len(html) < 1_000_000
    found = Fragment(html)
    assert found.of("b") == ["PASS"] * 20
    assert "180 models more: see the JSON report." in found.of("p")
    assert "4,900 layers more: see the JSON report." in found.of("p")


def test_asking_for_the_fragment_is_all_that_imports_it() -> None:
    import subprocess
    import sys

    script = "import sys, bninspect.records; print(any(name.startswith('bninspect.reports') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
