"""A framework that is wrong in six ways, one for each layer of a model: `verify` names each in its own output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

CAUSES = {
    "torch_epsilon": "epsilon=1e-05",
    "deviation": "divided-by-variance",
    "batch": "batch-statistics",
    "no_gamma": "gamma-ignored",
    "axis_1": "axis=1",
    "half": "arithmetic=float16",
}
SENTENCES = {
    "torch_epsilon": "epsilon 1e-05 instead of 0.001 (the default of PyTorch and ONNX)",
    "deviation": "divided by variance + epsilon: the variance is taken for the standard deviation",
    "batch": "normalised by mean and biased variance of the batch itself (training mode)",
    "no_gamma": "gamma ignored: 1 is used",
    "axis_1": "the parameters run along axis 1 of the input instead of axis 3",
    "half": "computed in float16 throughout",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of six batch norms on images of 6 by 6 pixels and 6 channels, two in a batch."""
    import tf_keras

    random = np.random.default_rng(0)
    inputs = tf_keras.Input((6, 6, 6), batch_size=2)
    x = inputs
    for name in CAUSES:
        norm = tf_keras.layers.BatchNormalization(name=name)
        x = norm(x)
        gamma = random.uniform(0.5, 1.5, 6) * random.choice([-1, 1], 6)
        variance = random.uniform(0.05, 1.5, 6)
        if name == "torch_epsilon":
            variance[0] = 1e-5  # tells 1e-5 from 1.001e-5
        norm.set_weights([gamma, *random.normal(size=(2, 6)) * 0.5, variance])
    path = tmp_path_factory.mktemp("model") / "six.keras"
    tf_keras.Model(inputs, x).save(path)
    return path


@pytest.fixture(scope="module")
def verified(model: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "TAMPERED": "wrong_conventions",
        "PYTHONPATH": str(Path(__file__).parents[1] / "helpers" / "tampered"),
    }
    command = [sys.executable, "-P", "-m", "bninspect", "verify", str(model), "-o", f"json={model}.json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("name", CAUSES)
def test_the_convention_that_a_layer_breaks_is_named(
    name: str, model: Path, verified: subprocess.CompletedProcess[str]
) -> None:
    assert verified.returncode == 1, verified.stderr
    (report,) = json.loads(Path(f"{model}.json").read_text())["models"]
    (layer,) = (layer for layer in report["layers"] if layer["name"] == name)
    assert layer["status"] == "mismatch"
    assert [cause["name"] for cause in layer["explanation"]["causes"]] == [CAUSES[name]]
    lines = verified.stdout.splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.startswith(f"FAIL  {name}  "))
    (cause,) = (line for line in lines[place + 1 : place + 5] if line.startswith("      cause"))
    assert cause.removeprefix("      cause").strip().startswith(SENTENCES[name])
