"""OpenVINO as a runtime: in float32 and in the type that the processor has, and the type is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import openvino_files as build
from helpers.outcomes import observed, verified

from bninspect import formats
from bninspect.equivalence import task
from bninspect.errors import UnreadableFile
from bninspect.formats.read_task import read
from bninspect.records import Evidence, LayerStatus, ModelReport, Status
from bninspect.runtimes import openvino
from bninspect.runtimes.runtime import RunSettings
from bninspect.settings import Settings

pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bninspect[openvino]'")

_HINT = "INFERENCE_PRECISION_HINT"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.write(tmp_path_factory.mktemp("ir") / "m.xml")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_HINT, "f32")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for bfloat16; skip where the processor has none."""
    import openvino as package

    if "BF16" not in package.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    monkeypatch.setenv(_HINT, "bf16")


def test_observations_are_those_of_openvino_itself(written: Path, exact: None) -> None:
    run, seen = observed(written, seed=3)
    assert (run.evidence, run.unobserved, run.precision) == (Evidence.MODEL, {}, None)
    assert run.runtime.startswith("OpenVINO 20")
    assert [(one.layer, one.observed) for one in seen] == [("norm", "in-model"), ("norm", "probed")]
    norm, _ = seen
    own = build.PARAMETERS
    slope = own["gamma"] / np.sqrt(own["moving_variance"] + np.float32(build.EPSILON))
    shape = (1, 4, 1, 1)
    expected = (norm.x - own["moving_mean"].reshape(shape)) * slope.reshape(shape) + own["beta"].reshape(shape)
    np.testing.assert_allclose(norm.y, expected, rtol=1e-5, atol=1e-5)


def test_right_file_isverified(written: Path, exact: None) -> None:
    model = verified(written)
    assert (model.status, model.precision and model.precision.dtype) == (Status.PASS, "float32")
    assert {one.observed for one in model.layers[0].comparisons} == {"in-model", "probed"}
    assert verified(written, precision="float32").status is Status.PASS


def test_narrow_arithmetic_is_declared_and_bounded(written: Path, narrow: None) -> None:
    model = verified(written)
    assert model.status is Status.PASS
    assert model.precision is not None
    assert (model.precision.dtype, _HINT in model.precision.why) == ("bfloat16", True)
    assert {one.observed for one in model.layers[0].comparisons} == {"in-model", "probed"}
    assert any("computes in bfloat16" in note and "of their largest" in note for note in model.notes)


def test_gate_of_float32_fails_for_less(written: Path, narrow: None) -> None:
    model = verified(written, precision="float32")
    assert (model.status, [one.rule for one in model.findings]) == (Status.FAIL, ["BN306"])
    assert all(layer.status is LayerStatus.VERIFIED for layer in model.layers)
    assert verified(written, precision="bfloat16").status is Status.PASS


def test_precision_that_nobody_saw_does_not_pass() -> None:
    from bninspect.records import DeclaredPrecision
    from bninspect.verdicts import runtime_findings

    assert runtime_findings.less_precise(None, "bfloat16") is not None
    assert runtime_findings.less_precise(DeclaredPrecision("float16"), "float32") is not None
    assert runtime_findings.less_precise(DeclaredPrecision("float16"), "bfloat16") is None
    assert runtime_findings.less_precise(DeclaredPrecision("float64"), "float32") is None


def test_model_whose_numbers_changed_is_not_run(written: Path, tmp_path: Path) -> None:
    path = build.write(tmp_path / "m.xml")
    checkpoint = read({"path": str(path), "digest": True}, [], lambda _: None)
    weights = bytearray(path.with_suffix(".bin").read_bytes())
    weights[0] ^= 1
    path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(UnreadableFile, match="changed while"):
        openvino.opened(checkpoint, RunSettings())


def test_names_that_openvino_repeats_are_said(tmp_path: Path) -> None:
    path = build.write(tmp_path / "m.xml")
    path.write_text(path.read_text().replace('name="scaled"', 'name="positive"'))
    model = verified(path)
    assert model.status is Status.ERROR
    assert all("cannot be told apart" in layer.reason for layer in model.layers)


def _torch_model() -> Any:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")
    nn = torch.nn
    torch.manual_seed(5)
    built = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8, eps=1e-3),
        nn.ReLU6(),
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),
        nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
    ).eval()
    for one in built.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.normal_(one.bias)
            nn.init.normal_(one.running_mean)
            nn.init.uniform_(one.running_var, 0.1, 2)
    return torch, built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return a torch model as torch.export saves it, and what OpenVINO's converter makes of it."""
    torch, built = _torch_model()
    import openvino as package

    example = torch.randn(2, 3, 16, 16)
    path = tmp_path_factory.mktemp("torch") / "m.pt2"
    torch.export.save(torch.export.export(built, (example,)), path)
    return path, package.convert_model(built, example_input=example, input=[2, 3, 16, 16])


def _against(source: Path, export: Path) -> ModelReport:
    return task.compare(formats.read(source), formats.read(export), Settings(against=(str(export),))).model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compress", [False, True])
def test_every_batch_norm_of_a_conversion_is_accounted_for(
    source: tuple[Path, Any], tmp_path: Path, compress: bool
) -> None:
    path, converted = source
    model = _against(path, build.write(tmp_path / "m.xml", converted, compress_to_fp16=compress))
    assert model.status is Status.PASS, model
    assert len(model.layers) == 5
    assert all(one.counterpart and one.counterpart.status is LayerStatus.VERIFIED for one in model.layers)


@pytest.mark.filterwarnings("ignore")
def test_wrong_fold_is_named(source: tuple[Path, Any], tmp_path: Path) -> None:
    """A fold with epsilon 0.5 instead of 1e-5, written into the converter's own file."""
    path, converted = source
    export = build.write(tmp_path / "m.xml", converted)
    layer = next(one for one in formats.read(path).layers if one.name == "1")
    assert layer.moving_mean is not None
    assert layer.moving_variance is not None
    right, wrong = (np.sqrt(layer.moving_variance.astype(np.float64) + epsilon) for epsilon in (1e-5, 0.5))
    stored = build.constants(export)
    (kernel,) = (array for array in stored.values() if array.shape == (8, 3, 3, 3))
    node = next(
        one for one in formats.read_network(export).nodes if one.kernel and one.kernel.weights.shape == (9, 3, 8)
    )
    assert node.kernel is not None
    assert node.kernel.bias is not None
    bias = layer.arrays["beta"] + (node.kernel.bias - layer.arrays["beta"]) * right / wrong
    weights = export.with_suffix(".bin")
    data = weights.read_bytes()
    changes = ((kernel, kernel * (right / wrong).reshape(8, 1, 1, 1)), (node.kernel.bias, bias))
    for before, after in changes:
        old = before.astype(np.float32).tobytes()
        assert data.count(old) == 1
        data = data.replace(old, after.astype(np.float32).tobytes())
    weights.write_bytes(data)
    model = _against(path, export)
    first = model.layers[0]
    assert (model.status, first.name, first.status) == (Status.FAIL, "1", LayerStatus.MISMATCH)
    assert first.counterpart is not None
    assert first.counterpart.explanation is not None
    assert "epsilon" in first.counterpart.explanation.causes[0].name
    rest = [one.counterpart for one in model.layers[1:]]
    assert all(one is not None and (one.inherited or one.status is LayerStatus.VERIFIED) for one in rest)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("corrected", [False, True])
def test_integers_of_nncf_are_proved_and_a_corrected_bias_is_not(
    source: tuple[Path, Any], tmp_path: Path, corrected: bool
) -> None:
    """Weights in steps are the model's to half a one; a bias that NNCF moved follows from data that nobody else has."""
    nncf = pytest.importorskip("nncf", reason="nncf is not installed: pip install nncf")
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

    path, converted = source
    generator = np.random.default_rng(2)
    data = [generator.normal(size=(2, 3, 16, 16)).astype(np.float32) for _ in range(8)]
    how = AdvancedQuantizationParameters(disable_bias_correction=not corrected)
    made = nncf.quantize(converted.clone(), nncf.Dataset(data), subset_size=8, advanced_parameters=how)
    model = _against(path, build.write(tmp_path / "m.xml", made))
    statuses = {one.counterpart.status for one in model.layers if one.counterpart}
    if not corrected:
        assert (model.status, statuses) == (Status.PASS, {LayerStatus.VERIFIED})
        return
    assert (model.status, LayerStatus.UNVERIFIED in statuses) == (Status.ERROR, True)
    assert LayerStatus.MISMATCH not in statuses
    assert any("bias is off by up to" in layer.reason for layer in model.layers)


@pytest.mark.filterwarnings("ignore")
def test_weights_alone_in_bytes_are_proved(source: tuple[Path, Any], tmp_path: Path) -> None:
    nncf = pytest.importorskip("nncf", reason="nncf is not installed: pip install nncf")
    path, converted = source
    made = nncf.compress_weights(converted.clone())
    model = _against(path, build.write(tmp_path / "m.xml", made))
    assert model.status is Status.PASS
    assert all(one.counterpart and one.counterpart.status is LayerStatus.VERIFIED for one in model.layers)


def test_a_convolution_of_integers_has_the_step_of_its_weights(tmp_path: Path) -> None:
    """With its transformations for low precision OpenVINO leaves the step out where that result alone is asked for."""
    import openvino as package
    from openvino import opset15 as ops

    generator = np.random.default_rng(5)
    x = generator.normal(size=(1, 2, 4, 4)).astype(np.float32)
    q = generator.integers(-127, 128, (3, 2, 1, 1)).astype(np.int8)
    low, high, step = np.float32(-4), np.float32(4), np.float32(0.01)
    image = ops.parameter(x.shape, np.float32, name="image")
    taken = ops.fake_quantize(image, *(ops.constant(end) for end in (low, high, low, high)), 256, name="taken")
    kernel = ops.multiply(ops.convert(ops.constant(q), "f32"), ops.constant(np.full((3, 1, 1, 1), step)))
    conv = ops.convolution(taken, kernel, [1, 1], [0, 0], [0, 0], [1, 1], name="conv")
    behind = ops.relu(ops.multiply(conv, ops.constant(np.full((1, 3, 1, 1), 2, np.float32))))
    path = build.write(tmp_path / "m.xml", package.Model([behind], [image], "m"))
    found = openvino.opened(formats.read(path), RunSettings()).compute({"image": x}, ["conv"])["conv"]
    size = (high - low) / 255
    rounded = np.round((np.clip(x, low, high) - low) / size) * size + low
    np.testing.assert_allclose(found, np.einsum("oc,nchw->nohw", q[:, :, 0, 0] * step, rounded), rtol=1e-4, atol=1e-4)


def test_values_on_the_way_can_be_given(written: Path) -> None:
    """What follows starts from them; what the model itself makes of the same place is returned all the same."""
    session = openvino.opened(formats.read(written), RunSettings())
    assert session.replay is not None
    generator = np.random.default_rng(4)
    data = {"image": generator.normal(size=(2, 4, 6, 6)).astype(np.float32)}
    own = session.compute(data, ["norm", "conv"])
    given = np.asarray(generator.normal(size=own["conv"].shape), np.float32)
    found = session.replay(data, {"conv": given}, ["norm", "conv", "mean"])
    np.testing.assert_array_equal(found["norm"], own["norm"])
    np.testing.assert_array_equal(found["conv"], own["conv"])
    expected = (np.maximum(given, 0) * build.SCALE + build.SHIFT).mean(axis=(2, 3))
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [False, True])
def test_ir_is_a_source(written: Path, tmp_path: Path, wrong: bool) -> None:
    """Its float16 copy holds every batch norm and scale; with another scale it does not, whoever looks."""
    built = build.model()
    if wrong:
        scale = next(one for one in built.get_ops() if np.array_equal(_data(one), build.SCALE))
        from openvino import opset15 as ops

        scale.output(0).replace(ops.constant(build.SCALE * np.float32(1.05)).output(0))
    model = _against(written, build.write(tmp_path / "m.xml", built, compress_to_fp16=True))
    assert model.status is (Status.PASS if not wrong else Status.FAIL)
    assert [one.name for one in model.layers] == ["norm"]


def _data(operation: Any) -> Any:
    return operation.data if operation.get_type_name() == "Constant" else None


@pytest.mark.parametrize("pad", ["same_lower", "same_upper"])
def test_a_transposed_convolution_of_a_given_length_moves_as_openvino_moves_it(
    tmp_path: Path, exact: None, pad: str
) -> None:
    """An odd number of zeros stands on one side: on which one is recomputed from what the file says."""
    from openvino import Model
    from openvino import opset15 as ops

    generator = np.random.default_rng(3)
    arrays = [ops.constant(generator.uniform(0.5, 2, 3).astype(np.float32)) for _ in range(4)]
    x = ops.parameter([1, 3, 8, 8], np.float32, "image")
    kernel = ops.constant(generator.normal(size=(3, 4, 3, 3)).astype(np.float32))
    norm = ops.batch_norm_inference(x, *arrays, 1e-3, name="norm")
    made = ops.convolution_backprop_data(
        norm, kernel, [2, 2], output_shape=ops.constant(np.array([16, 16])), auto_pad=pad, dilations=[1, 1]
    )
    path = build.write(tmp_path / "m.xml", Model([ops.result(made)], [x], "test"))
    found = task.compare(formats.read(path), formats.read(path), Settings()).model
    assert found.status is Status.PASS
