"""Many models in real frameworks: what one of them does to its process costs that model, and no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.renaming import renamed

from bninspect.reports import json_document

pytestmark = pytest.mark.tensorflow

GOOD = 7
CAUSES = {
    "abort": ("WorkerDied", "SIGABRT"),
    "devour": ("LimitExceeded", "more than 1.5 GB of memory"),
}


@pytest.fixture
def models(tmp_path: Path, sample_models: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(GOOD):
        source = sample_models / ("keras3_digits.keras" if number % 2 else "keras2_digits.h5")
        shutil.copy(source, folder / f"good{number}{source.suffix}")
    for how in CAUSES:
        renamed(sample_models / "keras2_digits.h5", folder / f"{how}.h5", "batch_normalization_2", f"bn_{how}")
    return folder


def verify(folder: Path, *arguments: str, tamper: str = "") -> tuple[int, dict[str, Any]]:
    environment = {
        **os.environ,
        "TAMPERED": "one_way",
        "TAMPER": tamper,
        "PYTHONPATH": str(Path(__file__).parents[1] / "helpers" / "tampered"),
    }
    limits = ("--jobs", "2", "--max-memory", "1500MB")
    command = [sys.executable, "-P", "-m", "bninspect", "verify", "models", "--json", *limits, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, env=environment, check=False)
    return done.returncode, {model["path"]: model for model in json.loads(done.stdout)["models"]}


def test_a_crash_and_too_much_memory_cost_one_model_each(models: Path, sample_models: Path) -> None:
    code, first = verify(models, "--resume", "r.jsonl", tamper="by-name")
    assert code == 3
    assert len(first) == GOOD + len(CAUSES)
    for how, (kind, said) in CAUSES.items():
        error = first[f"models/{how}.h5"]["error"]
        assert error["kind"] == kind
        assert said in error["what"]
    good = {path: model for path, model in first.items() if "good" in path}
    assert {(model["status"], model["evidence"]) for model in good.values()} == {("pass", "model")}
    assert len(json_document.models_in_lines((models.parent / "r.jsonl").read_text())) == len(first)

    # The framework is mended and one file is new: only what had failed is run, and that; the rest is what it was. What
    # has not ended within the limits is not waited for again within the same.
    source = sample_models / "keras2_digits.h5"
    renamed(source, models / "good0.h5", "batch_normalization_2", "bn_new")
    code, second = verify(models, "--resume", "r.jsonl")
    assert code == 3
    changed = good.pop("models/good0.h5")
    assert {path: second[path] for path in good} == good  # times included
    assert second["models/abort.h5"]["status"] == "pass"
    assert second["models/devour.h5"] == first["models/devour.h5"]
    assert second["models/good0.h5"]["sha256"] != changed["sha256"]
    assert [layer["name"] for layer in second["models/good0.h5"]["layers"]][2] == "bn_new"


def test_a_hang_is_ended_and_not_waited_for_again(tmp_path: Path, sample_models: Path) -> None:
    # Alone: how long a model takes that does not hang is a matter of the machine, and no limit of time fits all.
    (tmp_path / "models").mkdir()
    renamed(sample_models / "keras2_digits.h5", tmp_path / "models" / "hang.h5", "batch_normalization_2", "bn_hang")
    limits = "--timeout", "10", "--resume", "r.jsonl"
    code, first = verify(tmp_path / "models", *limits, tamper="by-name")
    assert code == 3
    error = first["models/hang.h5"]["error"]
    assert (error["kind"], error["what"]) == ("LimitExceeded", "not finished within 10 s")
    assert verify(tmp_path / "models", *limits) == (3, first)
