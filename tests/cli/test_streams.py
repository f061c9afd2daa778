"""Reports that are written model by model say what a whole report says, and keep nothing."""

from __future__ import annotations

import json
import re
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.running import bninspect

from bninspect.jobs.results import Results
from bninspect.records import ModelReport, Report, Status
from bninspect.reports import json_document
from bninspect.settings import Settings

MODELS = (
    "keras3_digits.h5",
    "broken_nan.h5",
    "broken_bit.keras",
    "keras3_without_batch_norm.keras",
    "keras2_shared.h5",
)


@pytest.fixture
def paths(sample_models: Path, tmp_path: Path) -> list[Path]:
    """Return paths that are the same in every checkout, as the digests of paths deal the parts out."""
    return [Path(shutil.copy(sample_models / name, tmp_path)).relative_to(tmp_path) for name in MODELS]


def document(report: Report) -> Any:
    return {model.path: json_document.model_line(replace(model, seconds=0.0)) for model in report.models}


@pytest.mark.parametrize(
    ("options", "code"), [([], 3), (["--shard", "1/2"], 1), (["--shard", "2/2"], 3), (["--jobs", "2"], 3)]
)
def test_streamed_lines_are_the_whole_report(options: list[str], code: int, paths: list[Path], tmp_path: Path) -> None:
    streamed = bninspect("lint", *paths, "-f", "jsonl", "-o", "jsonl=r.jsonl", *options, cwd=tmp_path)
    whole = bninspect("lint", *paths, "--json", *options, cwd=tmp_path)
    assert streamed.returncode == whole.returncode == code
    text = (tmp_path / "r.jsonl").read_text()
    assert sorted(text.splitlines()) == sorted(streamed.stdout.splitlines())
    found, expected = json_document.parse_lines(text), json_document.parse(whole.stdout)
    assert document(found) == document(expected)
    assert found.summary == expected.summary
    assert (found.shard is None) == (expected.shard is None)


def test_parts_that_were_streamed_are_joined(paths: list[Path], tmp_path: Path) -> None:
    for part in "12":
        bninspect("lint", *paths, "-f", "jsonl", "-o", f"jsonl={part}", "--shard", f"{part}/2", "-j", "2", cwd=tmp_path)
    joined = bninspect("merge", "1", "2", "--json", cwd=tmp_path)
    assert [Path(model["path"]).name for model in json.loads(joined.stdout)["models"]] == list(MODELS)


def test_a_pattern_that_fits_nothing_is_wrong_usage_in_a_stream_too(paths: list[Path], tmp_path: Path) -> None:
    done = bninspect("lint", paths[0], "-f", "jsonl", "--layer", "bn_*", cwd=tmp_path)
    assert done.returncode == 2
    assert "no layer fits" in done.stderr


def test_nothing_is_kept_and_all_is_counted(paths: list[Path], tmp_path: Path) -> None:
    whole = json_document.parse(bninspect("lint", *paths, "--json", cwd=tmp_path).stdout)
    results = Results(Settings(), kept=False)
    for number, model in enumerate(whole.models):
        results.add(number, model)
    assert results.models == ()
    assert results.summary(None) == whole.summary


def test_memory_does_not_grow_with_results_that_nobody_keeps() -> None:
    results = Results(Settings(), kept=False)

    def add(numbers: range) -> int:
        for number in numbers:
            results.add(number, ModelReport(f"m{number}.h5", None, 0, "stub", "", Status.PASS))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = add(range(100))
        after = add(range(100, 5100))
    finally:
        tracemalloc.stop()
    assert after - before < 5000  # bytes: not one for each
    assert results.summary(None).models == 5100


def test_a_folder_has_a_page_for_each_model_and_an_index_failures_first(paths: list[Path], tmp_path: Path) -> None:
    for _ in range(2):  # a report of an earlier run is replaced
        done = bninspect("lint", *paths, "-q", "-o", "html=report/", cwd=tmp_path)
        assert done.returncode == 3, done.stderr
    index = (tmp_path / "report/index.html").read_text("ascii")
    links = re.findall(r'href="(models/\d+\.html)"><code>([^<]*)</code>', index)
    assert [Path(name).name for _, name in links][:2] == ["broken_nan.h5", "broken_bit.keras"]
    assert sorted(Path(name).name for _, name in links) == sorted(MODELS)
    for link, name in links:
        page = (tmp_path / "report" / link).read_text("ascii")
        assert Path(name).name in page
        assert page.count("</html>") == 1
    assert index.count("<h1>") == 1
    assert "5 models" in index
    assert "BN101: gamma is not finite" in index, "a reason stands beside FAIL"
    assert "3 that did not pass" in index, "what hides the models that passed"
    assert '<table class="status models">' in index, "which is how the style sheet finds the rows"


def test_a_folder_with_anything_else_in_it_is_left_alone(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    done = bninspect("lint", paths[0], "-o", "html=mine/", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds other files" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_baseline_is_not_written_beside_pages_that_do_not_know_it(paths: list[Path], tmp_path: Path) -> None:
    done = bninspect("lint", paths[0], "-o", "html=report/", "--write-baseline", "known.json", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "known.json").exists()
