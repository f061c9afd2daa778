"""Exports of PyTorch models: whichever of program, TorchScript and ONNX is the source."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.exports import causes, counterparts, held, statuses

from bninspect import formats
from bninspect.equivalence import task
from bninspect.errors import UsageError
from bninspect.records import LayerStatus, Status
from bninspect.settings import Settings

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bninspect[onnx]'")

ALL = {LayerStatus.VERIFIED}
SHAPE = (2, 3, 8, 8)


class Net(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(8, eps=1e-3)
        self.up = torch.nn.ConvTranspose2d(8, 6, 2, groups=2)
        self.bn3 = torch.nn.BatchNorm2d(6)
        self.fc = torch.nn.Linear(6, 5)
        self.bn4 = torch.nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv(x)))
        x = torch.relu(self.bn2(self.depthwise(x)))
        x = torch.relu(self.bn3(self.up(x)))
        return self.bn4(self.fc(x.mean((2, 3))))


@pytest.fixture(scope="module")
def net() -> Any:
    return _random(4)


def _random(seed: int) -> Any:
    torch.manual_seed(seed)
    built = Net()
    with torch.no_grad():
        for name, tensor in built.state_dict().items():
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand(tensor.shape) + 0.1 if "var" in name else torch.randn(tensor.shape))
    return built.eval()


def _onnx(net: Any, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(SHAPE),), str(path), dynamo=False, **options)
    return path


def _program(net: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (torch.zeros(SHAPE),)), path)
    return path


def _script(net: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.zeros(SHAPE)).save(path)
    return path


@pytest.mark.parametrize("source", [_program, _script])
def test_folded_and_kept(net: Any, tmp_path: Path, source: Any) -> None:
    path = source(net, tmp_path / "source.pt2")
    folded = held(path, _onnx(net, tmp_path / "folded.onnx"))
    assert folded.status is Status.PASS
    # torch's exporter folds behind convolutions, and keeps the others.
    assert {name: one.how for name, one in counterparts(folded).items()} == {
        "bn1": "folded",
        "bn2": "folded",
        "bn3": "batch norm",
        "bn4": "batch norm",
    }
    keep = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    kept = held(path, _onnx(net, tmp_path / "kept.onnx", **keep))
    assert kept.status is Status.PASS
    assert {one.how for one in counterparts(kept).values()} == {"batch norm"}


@pytest.mark.parametrize("pooled", [True, False])
def test_an_export_of_any_size_gets_what_the_model_takes(tmp_path: Path, pooled: bool) -> None:
    """Where the size does not matter to the export, and where all but one make it fail, as it is flattened."""
    last = torch.nn.AdaptiveAvgPool2d(1) if pooled else torch.nn.Identity()
    head = torch.nn.Linear(4 if pooled else 4 * 6 * 6, 3)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), last, torch.nn.Flatten(), head)
    source = _program(net.eval(), tmp_path / "m.pt2")
    any_size = {"input_names": ["x"], "dynamic_axes": {"x": dict(enumerate("nchw"))}}
    model = held(source, _onnx(net, tmp_path / "m.onnx", **any_size))
    assert model.status is Status.PASS, (model.against, counterparts(model))


def test_onnx_as_the_source(net: Any, tmp_path: Path) -> None:
    keep = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    kept = _onnx(net, tmp_path / "kept.onnx", **keep)
    for export in (_onnx(net, tmp_path / "folded.onnx"), _program(net, tmp_path / "net.pt2")):
        model = held(kept, export)
        assert model.status is Status.PASS
        assert len(statuses(model)) == 4


def test_script_as_the_export(net: Any, tmp_path: Path) -> None:
    model = held(_program(net, tmp_path / "net.pt2"), _script(net, tmp_path / "net.pt"), input_shapes={"": SHAPE})
    assert set(statuses(model).values()) == ALL


class Halves(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A dense layer, whole or as two of half the width, each in front of the same relu."""

    def __init__(self, net: Any, *, halved: bool) -> None:
        super().__init__()
        self.conv, self.bn, self.head, self.halved = net.conv, net.bn1, torch.nn.Linear(8, 4), halved
        with torch.no_grad():
            self.head.weight.copy_(0.1 * torch.sin(torch.arange(32.0)).reshape(4, 8))
            self.head.bias.copy_(torch.full((4,), 9.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x))).mean((2, 3))
        if not self.halved:
            return torch.relu(self.head(x))
        parts = zip(self.head.weight.chunk(2), self.head.bias.chunk(2), strict=True)
        return torch.relu(torch.cat([torch.nn.functional.linear(x, *one) for one in parts], 1))


@pytest.mark.parametrize(
    ("bias", "factor", "status"), [(9.0, 1.0, Status.PASS), (-1e4, 1.0, Status.ERROR), (-1e4, 9.0, Status.ERROR)]
)
def test_in_another_form_is_right_only_if_every_channel_shows(
    net: Any, tmp_path: Path, bias: float, factor: float, status: Status
) -> None:
    """Nobody can tell what the channel multiplies whose relu never fires, right or wrong."""
    models = [Halves(net, halved=halved).eval() for halved in (False, True)]
    with torch.no_grad():
        for one in models:
            one.head.bias[1] = bias
        models[1].head.weight[1] *= factor
    model = held(_program(models[0], tmp_path / "whole.pt2"), _onnx(models[1], tmp_path / "halves.onnx"))
    assert model.status is status, model.against
    said = "linear: its weights are nowhere in the export, and channel 1 of what it returns shows nowhere"
    assert model.against is not None
    assert [one[: len(said)] for one in model.against.open] == ([said] if status is Status.ERROR else [])


def test_a_dense_layer_that_was_taken_apart_is_held_by_its_numbers(net: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (torch.zeros(SHAPE),)).run_decompositions(), tmp_path / "apart.pt2")
    nodes = {one.name: one for one in formats.read_network(tmp_path / "apart.pt2").nodes}
    kernel = nodes["addmm"].kernel
    assert kernel is not None
    assert kernel.bias is not None
    assert torch.equal(torch.from_numpy(kernel.weights[0].T.copy()), net.fc.weight)
    assert torch.equal(torch.from_numpy(kernel.bias.copy()), net.fc.bias)


def test_fused_by_torch_itself(net: Any, tmp_path: Path) -> None:
    """torch.nn.utils.fusion folds into plain convolutions, and into grouped transposed ones."""
    fused = Net()
    fused.load_state_dict(net.state_dict())
    fused.eval()
    fused.conv = torch.nn.utils.fuse_conv_bn_eval(fused.conv, fused.bn1)
    fused.bn1 = torch.nn.Identity()
    model = held(_program(net, tmp_path / "net.pt2"), _program(fused, tmp_path / "fused.pt2"))
    assert counterparts(model)["bn1"].how == "folded"
    assert model.status is Status.PASS


def test_grouped_transposed_convolution_scaled_along_its_stored_axis(net: Any, tmp_path: Path) -> None:
    """The stored axis is (outputs per group): the scales of the first group are used for all of them."""
    wrong = Net()
    wrong.load_state_dict(net.state_dict())
    wrong.eval()
    with torch.no_grad():
        norm = wrong.bn3
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        wrong.up.weight *= scale[:3].reshape(1, 3, 1, 1)
        wrong.up.bias.copy_((wrong.up.bias - norm.running_mean) * scale + norm.bias)
    wrong.bn3 = torch.nn.Identity()
    model = held(_program(net, tmp_path / "net.pt2"), _program(wrong, tmp_path / "wrong.pt2"))
    assert [one.name for one in causes(model, "bn3")] == ["group-order"]


def test_another_model(net: Any, tmp_path: Path) -> None:
    model = held(_program(net, tmp_path / "net.pt2"), _program(_random(77), tmp_path / "other.pt2"))
    assert model.status is Status.FAIL
    assert model.against is not None
    assert model.against.same is False


def test_parameters_of_a_format_without_kernels_cannot_be_held_against(net: Any, tmp_path: Path) -> None:
    """What holds neither a graph nor kernels is refused, with what compares stored parameters instead."""
    program = _program(net, tmp_path / "m.pt2")
    other = replace(formats.read(program), format="flax")
    with pytest.raises(UsageError, match="cannot be held against a model") as error:
        task.compare(formats.read(program), other, Settings())
    assert "bninspect diff" in error.value.hint


class Mixed(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A convolution of halves between batch norms of float32; torch asserts the type of what is converted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3).half()
        self.bn = torch.nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x.half()).float()))


@pytest.mark.parametrize(("factor", "status"), [(1.0, Status.PASS), (1.02, Status.FAIL)])
def test_halves_that_pnnx_folded_and_wrote_as_float32(tmp_path: Path, factor: float, status: Status) -> None:
    """It rounds what it folds to halves, and stores what is subnormal there as zero; its input has no shape."""
    torch.manual_seed(1)
    built = Mixed().eval()
    with torch.no_grad():
        built.conv.weight[0, 0, 0] = torch.tensor([5e-5, -3e-5, 1e-7])
        built.bn.running_var.uniform_(0.5, 2)
    source = tmp_path / "mixed.pt2"
    torch.export.save(torch.export.export(built, (torch.zeros(1, 3, 8, 8),)), source)
    scale = (built.bn.running_var.double() + built.bn.eps).rsqrt()
    weights = (built.conv.weight.double() * scale.reshape(-1, 1, 1, 1)).detach().numpy().astype(np.float16)
    weights[np.abs(weights) < 2.0**-14] = 0
    weights[3] = weights[3] * np.float16(factor)
    bias = (built.conv.bias.double() * scale).detach().numpy().astype(np.float16)
    lines = "Input in 0 1 in\nConvolution conv 1 1 in out 0=8 1=3 5=1 6=216 9=1\n"
    (tmp_path / "m.param").write_text(f"7767517\n2 2\n{lines}")
    stored = bytes(4) + weights.astype(np.float32).tobytes() + bias.astype(np.float32).tobytes()
    (tmp_path / "m.bin").write_bytes(stored)
    model = held(source, tmp_path / "m.param")
    assert model.against is not None
    if model.against.runtime is None and status is Status.PASS:  # ncnn is not installed
        assert [one.how for one in counterparts(model).values()] == ["folded"]
        assert "ncnn is not installed" in model.unproved[0]
    else:
        assert model.status is status
