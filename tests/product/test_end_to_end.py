"""`bninspect verify` against a framework that is right, and against the same framework made wrong in one way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.tensorflow

MODEL = "keras2_digits.h5"
LAYER = "batch_normalization_2"


def verify(*arguments: str | Path, tamper: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "TAMPERED": "one_way",
        "TAMPER": tamper,
        "PYTHONPATH": str(Path(__file__).parents[1] / "helpers" / "tampered"),
    }
    command = [sys.executable, "-P", "-m", "bninspect", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def layers_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (model,) = json.loads(done.stdout)["models"]
    return {layer["name"]: layer for layer in model["layers"]}


def test_a_right_framework_passes_and_only_the_result_is_printed(sample_models: Path) -> None:
    done = verify(sample_models / MODEL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2].startswith("PASS  4 of 4 layers equal")


@pytest.mark.parametrize(
    ("tamper", "rule", "says"),
    [
        ("bit:moving_variance,5", "BN304", "moving_variance of channel 5 is"),
        ("bit:gamma,0", "BN304", "gamma of channel 0 is"),
        ("epsilon:1e-5", "BN305", "epsilon is 0.001 in the file and 1e-05 in the runtime"),
        ("hidden-epsilon:1.1e-3", "BN301", "over the rounding limit"),
        ("swap", "BN301", "over the rounding limit"),
        ("nan", "BN202", "not finite"),
    ],
)
def test_a_wrong_framework_fails_and_the_layer_is_named(tamper: str, rule: str, says: str, sample_models: Path) -> None:
    done = verify(sample_models / MODEL, "--json", tamper=tamper)
    assert done.returncode == 1, done.stderr
    layers = layers_of(done)
    assert next(name for name, layer in layers.items() if layer["status"] == "mismatch") == LAYER
    messages = {finding["rule"]: finding["message"] for finding in layers[LAYER]["findings"]}
    assert says in messages[rule]
    if rule != "BN304":
        assert all(one["worst"]["channel"] in range(16) for one in layers[LAYER]["comparisons"] if one["violations"])


@pytest.mark.parametrize(
    ("tamper", "cause"),
    [
        ("hidden-epsilon:1e-5", "epsilon 1e-05 instead of 0.001"),
        ("swap", "gamma and beta exchanged"),
    ],
)
def test_the_broken_convention_is_named(tamper: str, cause: str, sample_models: Path) -> None:
    done = verify(sample_models / MODEL, tamper=tamper)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("      cause")]
    assert cause in line
    assert "explains every value" in line


def test_a_crash_costs_one_model_and_is_named(sample_models: Path) -> None:
    done = verify(sample_models / MODEL, sample_models / "keras3_digits.keras", "--json", tamper="abort")
    assert done.returncode == 3
    crashed, intact = json.loads(done.stdout)["models"]
    assert (crashed["status"], crashed["error"]["kind"]) == ("error", "WorkerDied")
    assert "SIGABRT" in crashed["error"]["what"]
    assert intact["status"] == "pass"


def test_a_hang_ends_with_the_time_limit(sample_models: Path) -> None:
    done = verify(sample_models / MODEL, "--timeout", "15", "--json", tamper="hang")
    assert done.returncode == 3
    (model,) = json.loads(done.stdout)["models"]
    assert model["error"]["kind"] == "LimitExceeded"
    assert "--timeout" in model["error"]["hint"]
