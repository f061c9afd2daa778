"""Every report that was asked for is written, whatever becomes of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.running import bninspect

from bninspect import reports
from bninspect.cli import bninspect as command
from bninspect.cli.options import FORMATS

MODEL = "keras2_digits.h5"


def targets(folder: Path, **others: Path) -> list[str]:
    paths = {form: folder / f"report.{form}" for form in FORMATS} | others
    return [word for form, path in paths.items() for word in ("-o", f"{form}={path}")]


def test_one_run_writes_them_all(sample_models: Path, tmp_path: Path) -> None:
    done = bninspect("inspect", sample_models / MODEL, *targets(tmp_path), "-f", "github")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {f"report.{form}" for form in FORMATS}
    assert done.stdout == (tmp_path / "report.github").read_text()


@pytest.mark.parametrize("broken", FORMATS)
def test_a_file_that_cannot_be_written_costs_no_other(broken: str, sample_models: Path, tmp_path: Path) -> None:
    missing = tmp_path / "no" / "folder"
    done = bninspect("inspect", sample_models / MODEL, *targets(tmp_path, **{broken: missing}), "--json")
    assert done.returncode == 3
    lost = {broken, "intoto"} if broken == "json" else {broken}  # a statement is about the JSON report
    assert {path.name for path in tmp_path.iterdir()} == {f"report.{form}" for form in {*FORMATS} - lost}
    assert json.loads(done.stdout)["summary"]["exit_code"] == 0
    lines = done.stderr.splitlines()
    assert lines[0] == f"error: cannot write '{missing}'"
    assert lines[1].startswith("  why: the folder")
    assert lines[2].startswith("  hint: mkdir -p ")


def test_all_that_went_wrong_is_told(sample_models: Path, tmp_path: Path) -> None:
    done = bninspect(
        "inspect", sample_models / "broken_nan.h5", "-o", f"json={tmp_path}", "-o", f"html={tmp_path / 'a' / 'b'}"
    )
    assert done.returncode == 3
    assert done.stderr.count("error: cannot write") == 2
    assert "BN101" in done.stdout


def test_a_defect_in_one_format_costs_no_other(
    sample_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> str:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(reports, "REPORTS", {**reports.REPORTS, "html": fail})
    words = ["inspect", str(sample_models / MODEL), *targets(tmp_path)]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert done.return_value == 3
    assert {path.name for path in tmp_path.iterdir()} == {f"report.{form}" for form in FORMATS if form != "html"}
    assert "the html report failed\n  why: ZeroDivisionError: a defect\n" in done.stderr
    assert "4 batch-norm layers" in done.stdout


def test_two_reports_in_one_file_are_refused(sample_models: Path, tmp_path: Path) -> None:
    done = bninspect("inspect", sample_models / MODEL, "-o", "json=a", "-o", "html=./a", cwd=tmp_path)
    assert done.returncode == 2
    assert "'a' is named twice" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_named(sample_models: Path, tmp_path: Path) -> None:
    done = bninspect("inspect", sample_models / MODEL, "-o", "pdf=x", cwd=tmp_path)
    assert done.returncode == 2
    assert "'pdf' is not a format: write FORMAT=PATH" in done.stderr
