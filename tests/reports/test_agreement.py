"""One run, all formats: each of them says of every model what the JSON says, and what the exit code says of all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import report_verdicts as verdicts
from helpers.written_reports import Written, write

from bninspect.reports import json_document

pytestmark = pytest.mark.tensorflow


def agreed(written: Written) -> verdicts.Verdicts:
    """Check that all files of a run agree, and return the verdicts."""
    expected = verdicts.of_json(written.text("json"))
    failing = {path: status for path, status in expected.items() if status != "pass"}
    assert verdicts.of_json_lines(written.text("jsonl")) == expected
    assert verdicts.of_junit(written.text("junit")) == expected
    assert verdicts.of_markdown(written.text("markdown")) == expected
    assert verdicts.of_html(written.text("html")) == expected
    assert verdicts.of_github(written.text("github")) == failing
    code = json.loads(written.text("json"))["summary"]["exit_code"]
    assert verdicts.exit_code(expected) == code == written.exit_code
    assert json_document.parse_lines(written.text("jsonl")) == json_document.parse(written.text("json"))
    return expected


def test_sample_models(report_of_samples: Written, sample_models: Path) -> None:
    found = agreed(report_of_samples)
    manifest = json.loads((sample_models / "manifest.json").read_text())["models"]
    for name, model in manifest.items():
        plain = [case["status"] for case in model["verify"] if not case["options"]]
        assert plain in ([], [found[f"sample_models/{name}"]]), name
    assert set(found.values()) == {"pass", "fail", "error", "empty"}


def test_real_models(shared_models: Path, tmp_path: Path) -> None:
    chosen = [
        "face-classification/fer2013_mini_XCEPTION.102-0.66.hdf5",
        "writers/k122/nested.h5",
        "writers/k225/seq_w.h5",
        "writers/tf115/noscale.h5",
        "writers/k315/nested.keras",
        "torch/whole.pt",
    ]
    found = agreed(write([shared_models / name for name in chosen], tmp_path))
    first, *_, last = found.values()
    assert (first, last) == ("pass", "error")
