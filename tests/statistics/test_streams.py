"""What arrives at a batch norm is the same in every runtime: the moments that NumPy finds by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layers import layer

import bninspect
from bninspect import formats, runtimes
from bninspect.records import Array, Statistics
from bninspect.settings import Settings
from bninspect.statistics.data.samples import Batch
from bninspect.statistics.drift import drift_checkpoint
from bninspect.statistics.measure import measure
from bninspect.verdicts.verify_task import run_settings

torch = pytest.importorskip("torch")


def data() -> Array:
    return (np.random.default_rng(0).standard_normal((24, 2, 9, 9)) * 3 + 1).astype(np.float32)


def net() -> object:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()


def script(path: Path) -> Path:
    torch.jit.trace(net(), torch.from_numpy(data()[:2])).save(str(path))
    return path


def exported(path: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=4096)
    example = (torch.zeros(4, 2, 9, 9),)
    torch.export.save(torch.export.export(net(), example, dynamic_shapes=({0: batch},)), path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("write", "name"), [(script, "net.pt"), (exported, "net.pt2")])
def test_what_arrives_in_torch_is_what_the_layer_before_computes(tmp_path: Path, write: object, name: str) -> None:
    path = write(tmp_path / name)  # type: ignore[operator]
    checkpoint = formats.read(path)
    x = data()
    with runtimes.open_stream(checkpoint, run_settings(Settings())) as stream:
        key = stream.inputs[0].name if stream.inputs else ""
        batches = [Batch({key: x[start : start + 8]}, 8, 8) for start in range(0, 24, 8)]
        found = measure(stream.forward, batches, checkpoint.layers)
    ((_, population),) = found.populations.items()
    with torch.no_grad():
        arrived = net()[0](torch.from_numpy(x)).double().numpy()  # type: ignore[index]
    np.testing.assert_allclose(population.mean, arrived.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(population.variance, arrived.var(axis=(0, 2, 3)), rtol=1e-5)
    assert population.samples == 24


def test_a_file_whose_statistics_are_folded_away_is_not_run_and_no_pass(tmp_path: Path) -> None:
    from dataclasses import replace

    from bninspect.records import Checkpoint

    folded = replace(layer("bn"), statistics=Statistics.FOLDED)
    checkpoint = Checkpoint(str(tmp_path / "m.tflite"), "tflite", "", (folded,))
    model = drift_checkpoint(checkpoint, Settings(data=str(tmp_path))).model
    assert model.status == "error"
    assert "ask the model that this file was made from" in model.layers[0].reason


def test_the_assertion_of_tests_says_what_is_wrong(tmp_path: Path) -> None:
    from bninspect.testing import assert_statistics_fit

    path, x = exported(tmp_path / "net.pt2"), data()
    bninspect.recalibrate(path, x, tmp_path / "out.pt2")
    report = assert_statistics_fit(tmp_path / "out.pt2", x, max_effect=0.5, trained_batch=24)
    assert report.summary.exit_code == 0
    assert report.models[0].data is not None
    assert report.models[0].data.title == "the data"
    with pytest.raises(AssertionError, match="those of the data"):
        assert_statistics_fit(tmp_path / "out.pt2", x * 100)
    with pytest.raises(TypeError, match="did you mean 'max_effect'"):
        assert_statistics_fit(tmp_path / "out.pt2", x, max_efect=1)
