"""ncnn as a runtime, and what pnnx makes of a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ncnn_files as build

from bninspect import formats, runtimes
from bninspect.equivalence import task
from bninspect.errors import RuntimeFailure
from bninspect.records import LayerStatus, ModelReport, Observation, Status
from bninspect.runtimes import ncnn
from bninspect.runtimes.runtime import RunSettings
from bninspect.settings import Settings
from bninspect.verdicts import verify_task

pytest.importorskip("ncnn", reason="ncnn is not installed: pip install 'bninspect[ncnn]'")


def test_observations_are_those_of_ncnn_itself(tmp_path: Path) -> None:
    """The convolution recomputed by hand shows that the numbers were read in ncnn's own order."""
    seen: list[Observation] = []
    run = runtimes.run(formats.read(build.write(tmp_path)), RunSettings(seed=2), lambda: seen.append)
    assert [(one.layer, one.observed) for one in seen] == [("norm", "in-model"), ("norm", "probed")]
    assert run.runtime.startswith("ncnn 1.")
    x = np.random.default_rng(2).standard_normal((1, 2, 5, 5), np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    conv = np.einsum("ncyxij,ocij->noyx", windows, build.KERNEL) + build.BIAS.reshape(1, 4, 1, 1)
    np.testing.assert_allclose(seen[0].x, np.clip(conv, 0, 6), atol=1e-5)


def test_right_file_is_verified_and_its_storage_declared(tmp_path: Path) -> None:
    checkpoint = formats.read(build.write(tmp_path))
    model = verify_task.verify_checkpoint(checkpoint, Settings()).model
    assert model.status is Status.PASS
    assert model.precision is not None
    assert model.precision.dtype == "float16"
    strict = verify_task.verify_checkpoint(checkpoint, Settings(precision="float32")).model
    assert (strict.status, [one.rule for one in strict.findings]) == (Status.FAIL, ["BN306"])


def _against(source: Path, export: Path) -> ModelReport:
    told = Settings(against=(str(export),), input_shapes={"": (1, 3, 16, 16)})
    return task.compare(formats.read(source), formats.read(export), told).model


@pytest.fixture(scope="module")
def built() -> Any:
    return build.torch_model()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("narrow", [0, 1])
def test_every_batch_norm_that_pnnx_converted_is_accounted_for(built: Any, tmp_path: Path, narrow: int) -> None:
    source, export = build.convert(built, tmp_path, fp16=narrow)
    kept = [built[0], built[4]]  # the others are folded
    for layer, own in zip(formats.read(export).layers, kept, strict=True):
        numbers = (own.weight, own.bias, own.running_mean, own.running_var)
        for array, number in zip(layer.arrays.values(), numbers, strict=True):
            np.testing.assert_array_equal(array, number.detach().numpy())
    model = _against(source, export)
    assert model.status is Status.PASS, model
    assert len(model.layers) == 4
    assert all(one.counterpart and one.counterpart.status is LayerStatus.VERIFIED for one in model.layers)


@pytest.mark.filterwarnings("ignore")
def test_epsilon_that_was_left_out_is_named(built: Any, tmp_path: Path) -> None:
    source, export = build.convert(built, tmp_path, fp16=0)
    text, changes = re.subn(r"(BatchNorm .* 0=8) 1=\S+", r"\1", export.read_text())
    assert changes == 1
    export.write_text(text)
    model = _against(source, export)
    (wrong,) = (one for one in model.layers if one.name == "4")
    assert (model.status, wrong.status) == (Status.FAIL, LayerStatus.MISMATCH)
    assert wrong.counterpart is not None
    assert wrong.counterpart.explanation is not None
    assert "epsilon" in wrong.counterpart.explanation.causes[0].name


def test_values_on_the_way_can_be_given(tmp_path: Path) -> None:
    """What follows starts from them; what the model itself makes of the same place is returned all the same."""
    session = ncnn.opened(formats.read(build.write(tmp_path)), RunSettings())
    assert session.replay is not None
    generator = np.random.default_rng(4)
    data = {"data": generator.normal(size=(1, 2, 5, 5)).astype(np.float32)}
    own = session.compute(data, ["c", "n"])
    given = np.asarray(generator.normal(size=own["c"].shape), np.float32)
    found = session.replay(data, {"c": given}, ["c", "n"])
    np.testing.assert_array_equal(found["c"], own["c"])
    gamma, mean, variance, beta = (one.reshape(1, 4, 1, 1) for one in build.PARAMETERS.values())
    expected = (given - mean) * gamma / np.sqrt(variance + np.float32(0.25)) + beta
    np.testing.assert_allclose(found["n"], expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(own["n"], found["n"])


def test_inputs_without_shapes_are_refused_if_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "m.param").write_text("7767517\n3 3\nInput a 0 1 a\nInput b 0 1 b\nBinaryOp add 2 1 a b y 0=0\n")
    (tmp_path / "m.bin").write_bytes(b"")
    with pytest.raises(RuntimeFailure, match="2 inputs, and does not state their shapes"):
        ncnn.opened(formats.read(tmp_path / "m.param"), RunSettings())


def test_input_of_other_channels_is_refused_before_ncnn_reads_beyond_it(tmp_path: Path) -> None:
    session = ncnn.opened(formats.read(build.write(tmp_path)), RunSettings())
    with pytest.raises(RuntimeFailure, match="2 channels"):
        session.compute({"data": np.zeros((1, 5, 5, 2), np.float32)}, session.outputs)
