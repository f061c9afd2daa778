"""`bninspect verify --training` against a framework that is right, and against one that trains wrongly in four ways."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bninspect.reports import schema

pytestmark = pytest.mark.tensorflow

MODEL = "keras2_digits.h5"
SWAPPED, UNBIASED, SKIPPED, MOVING = (f"batch_normalization{end}" for end in ("", "_1", "_2", "_3"))


def verify(model: Path, target: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the command line; return what it printed, and its layers by name from the JSON that it wrote."""
    path = str(Path(__file__).parents[1] / "helpers" / "tampered")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bninspect", "verify", str(model), "--training", "-v", "-o", f"json={target}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=False,
    )
    document = json.loads(target.read_text())
    jsonschema.validate(document, json.loads(schema.text()))
    return done, {layer["name"]: layer for layer in document["models"][0]["layers"]}


def test_a_right_framework_passes_and_every_layer_has_its_lines(sample_models: Path, tmp_path: Path) -> None:
    done, layers = verify(sample_models / MODEL, tmp_path / "report.json")
    assert (done.returncode, done.stderr) == (0, "")
    _, *rest, _, kept, verdict, _ = done.stdout.splitlines()
    assert verdict.startswith(
        "PASS  4 of 4 layers equal gamma*(x-mean)/sqrt(variance+epsilon)+beta, also in a training"
    )
    assert kept.strip() == "a training step averages the unbiased variance in 3 layers, the biased variance in 1 layer"
    # Three images and a vector: the first are fused.
    for name, estimator, words in (
        (SWAPPED, "unbiased", "unbiased variance, n/(n-1) with n = 12"),
        (MOVING, "biased", "biased variance, divided by n with n = 8"),
    ):
        place = next(i for i, line in enumerate(rest) if line.startswith(f"ok    {name} "))
        assert re.match(r"in a training step [\d.]+ % of the limit", rest[place + 1].strip())
        assert re.match(r"in a training step of the layer run alone [\d.]+ % of the limit", rest[place + 2].strip())
        assert rest[place + 3].strip() == f"moving_variance keeps the {words}"
        assert layers[name]["estimator"] == estimator
        assert [(one["observed"], one["reference"]) for one in layers[name]["comparisons"]] == [
            ("in-model", "formula"),
            ("probed", "formula"),
            ("training", "output"),
            ("training", "moving_mean"),
            ("training", "moving_variance"),
            ("training-probed", "output"),
            ("training-probed", "moving_mean"),
            ("training-probed", "moving_variance"),
        ]


def test_what_each_layer_does_wrong_is_named(sample_models: Path, tmp_path: Path) -> None:
    done, layers = verify(sample_models / MODEL, tmp_path / "report.json", TAMPERED="wrong_training")
    assert done.returncode == 1, done.stderr
    assert {layer["status"] for layer in layers.values()} == {"mismatch"}
    for layer in layers.values():
        assert all(one["violations"] == 0 for one in layer["comparisons"] if one["reference"] == "formula")
    wrong = {
        name: {one["reference"] for one in layer["comparisons"] if one["violations"]} for name, layer in layers.items()
    }
    updates = {"moving_mean", "moving_variance"}
    assert wrong == {SWAPPED: updates, UNBIASED: {"output"}, SKIPPED: updates, MOVING: {"output"}}
    messages = {
        name: {finding["rule"]: finding["message"] for finding in layer["findings"]} for name, layer in layers.items()
    }
    assert "momentum and 1 - momentum are swapped, 0.01 of the old value is kept" in messages[SWAPPED]["BN312"]
    assert "it is not updated" in messages[SKIPPED]["BN312"]
    assert "BN311" in messages[UNBIASED]
    assert [cause["name"] for cause in layers[UNBIASED]["explanation"]["causes"]] == ["batch-statistics-unbiased"]
    assert [cause["name"] for cause in layers[MOVING]["explanation"]["causes"]] == [
        "statistics-of=its moving statistics"
    ]
    said = done.stdout
    assert f"FAIL  {SWAPPED}   a training step stores another moving_mean and another moving_variance" in said
    assert "cause      normalised by mean and unbiased variance, n/(n-1), of the batch itself" in said
    assert "cause      mean and variance of its moving statistics used instead of its own" in said
