"""Networks as torchvision builds them, small: with operations in place, skips, drop-out and what decoders use."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

nn = torch.nn


def _conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **options)


class BasicBlock(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Two convolutions and a skip that is added in place."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both ways."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)


class ResNet(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """ResNet with two stages: 7 batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = _conv(3, 8, 7, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2 = BasicBlock(8, 8), BasicBlock(8, 16, 2)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


def _inverted(inputs: int, outputs: int) -> Any:
    hidden = inputs * 4
    return nn.Sequential(
        *(_conv(inputs, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)),
        *(_conv(hidden, hidden, groups=hidden), nn.BatchNorm2d(hidden, eps=1e-3), nn.Hardswish(inplace=True)),
        *(_conv(hidden, outputs, 1), nn.BatchNorm2d(outputs, momentum=0.01)),
    )


class MobileNet(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """MobileNetV2 with two inverted residuals: 7 batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 8, stride=2), nn.BatchNorm2d(8), nn.SiLU(inplace=True))
        self.block1, self.block2 = _inverted(8, 8), _inverted(8, 12)
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(12, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.stem(x)
        x = self.block2(x + self.block1(x))
        return self.classifier(x.mean([2, 3]))


class UNet(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A decoder with what decoders use: up-sampling of three kinds, ELU, Mish, drop-out: 5 batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(_conv(3, 8), nn.BatchNorm2d(8), nn.ELU(inplace=True))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), _conv(8, 16), nn.BatchNorm2d(16), nn.Mish(inplace=True))
        self.bottom = nn.Sequential(nn.AvgPool2d(2), _conv(16, 16), nn.BatchNorm2d(16), nn.LeakyReLU(0.1, inplace=True))
        self.up1, self.up2 = nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(2)
        self.mix = nn.Sequential(_conv(32, 16), nn.BatchNorm2d(16), nn.PReLU(), nn.Dropout2d(0.1))
        self.out = nn.Sequential(_conv(12, 4), nn.BatchNorm2d(4, affine=False), nn.Upsample(scale_factor=2), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of four classes, in half precision and back, larger than the input."""
        first = self.down1(x)
        second = self.down2(first)
        third = self.mix(torch.cat([self.up1(self.bottom(second)), second], 1))
        result = self.out(torch.cat([self.up2(third), first], 1))
        return torch.nn.functional.softmax(result.to(torch.float16).to(torch.float32), dim=1)


NETS: dict[str, Callable[[], Any]] = {"ResNet": ResNet, "MobileNet": MobileNet, "UNet": UNet}
COUNTS = {"ResNet": 7, "MobileNet": 7, "UNet": 5}
SHAPE = (2, 3, 16, 16)


def made(name: str) -> Any:
    """Return a network in evaluation mode with parameters as training leaves them: no two layers alike."""
    torch.manual_seed(3)
    net = NETS[name]()
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if key.endswith(("running_mean", "bias")):
                tensor.copy_(torch.randn(tensor.shape))
            elif tensor.dtype.is_floating_point and tensor.ndim == 1:
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return net.eval()


def with_norms_filled(net: Any) -> Any:
    """Return a network in evaluation mode, numbers of all kinds in what is called `bn`, by the seed that is set."""
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.dtype.is_floating_point and "bn" in name:
                tensor.copy_(torch.rand(tensor.shape) + 0.2 if "var" in name else torch.randn(tensor.shape))
    return net.eval()


def settled(net: Any) -> Any:
    """Return a network in evaluation mode, all its numbers between 0.1 and 1.1."""
    torch.manual_seed(3)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand(tensor.shape) + 0.1)
    return net.eval()


def save(net: Any, kind: str, path: Path, example: Any = None, *, any_batch: bool = False) -> Path:
    """Save a network as `traced`, `scripted`, `frozen`, `exported`, `decomposed`, `state_dict` or `module`.

    `example` is an array of its input; `any_batch` leaves the length of the first axis free in what is exported.
    """
    x = torch.zeros(SHAPE) if example is None else torch.from_numpy(example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "traced":
            torch.jit.trace(net, x).save(path)
        elif kind == "scripted":
            torch.jit.script(net).save(path)
        elif kind == "frozen":
            torch.jit.freeze(torch.jit.script(net), optimize_numerics=False).save(path)
        elif kind in {"exported", "decomposed"}:
            shapes = ({0: torch.export.Dim("batch")},) if any_batch else None
            program = torch.export.export(net, (x,), dynamic_shapes=shapes)
            torch.export.save(program.run_decompositions() if kind == "decomposed" else program, path)
        else:
            layout, _, what = kind.rpartition(" ")
            content = net.state_dict() if what == "state_dict" else net
            torch.save(content, path, _use_new_zipfile_serialization=layout != "legacy")
    return path
