"""A signalling NaN, of which NumPy warns wherever it widens one, is a finding, and no command prints a warning."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.running import bninspect

SIGNALLING = 0x7FA00001
LAYER = "batch_normalization_1"
COMMANDS = [
    "inspect bad.h5",
    "inspect bad.h5 -f json",
    "inspect bad.h5 -o html=r.html",
    "lint bad.h5",
    "diff bad.h5 good.h5",
    "diff good.h5 bad.h5",
    "diff bad.h5 bad.h5",
    *(f"export bad.h5 --format {kind} -o e.{kind}" for kind in ("npz", "csv", "json", "onnx", "c")),
    f"explain bad.h5 --layer {LAYER}",
    f"explain bad.h5 --layer {LAYER} --input x.npy --output x.npy --axis 1",
    f"explain good.h5 --layer {LAYER} --input x.npy --output x.npy --axis 1",
    f"explain bad.h5 --layer {LAYER} --training --input x.npy --axis 1",
    "vectors bad.h5 -o v.npz",
]


@pytest.fixture(scope="module")
def folder(sample_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signalling")
    for name in ("good.h5", "bad.h5"):
        shutil.copy(sample_models / "keras2_digits.h5", path / name)
    with h5py.File(path / "bad.h5", "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        stored = [file[name] for name in names if f"{LAYER}/" in name and "optimizer" not in name]
        for dataset in (one for one in stored if isinstance(one, h5py.Dataset)):
            values = dataset[...]
            values.view("<u4")[1] = SIGNALLING
            dataset.write_direct(values)
    x = np.ones((4, 12), np.float32)
    x.view("<u4")[0, 0] = SIGNALLING
    np.save(path / "x.npy", x)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_a_warning_of_python(folder: Path, command: str) -> None:
    done = bninspect(*command.split(), cwd=folder)
    assert done.returncode in {0, 1, 3}
    assert "Warning:" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.tensorflow
@pytest.mark.parametrize("command", ["verify bad.h5", "verify bad.h5 --training"])
def test_verify_prints_none_either(folder: Path, command: str) -> None:
    done = bninspect(*command.split(), cwd=folder)
    assert done.returncode == 1
    assert "RuntimeWarning" not in done.stderr
