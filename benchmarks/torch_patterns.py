"""The patterns of converter_patterns.py as modules of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from converter_patterns import BY_NAME, Pattern, generator, parameters
from torch import nn

IMAGE = (3, 8, 8)
FEATURES = (12,)


class Joined(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Branches that read the same, and what puts them together."""

    def __init__(self, join: Callable[..., Any], *branches: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.join = join
        self.branches = nn.ModuleList(branches)
        self.after = after or nn.Identity()

    def forward(self, x: Any) -> Any:
        """Return what the branches make of x, put together."""
        return self.after(self.join(*[branch(x) for branch in self.branches]))


class Twice(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A stem, and the sum of what it returns and what a block makes of that."""

    def __init__(self, stem: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.stem, self.block = stem, block

    def forward(self, x: Any) -> Any:
        """Return the sum."""
        x = self.stem(x)
        return x + self.block(x)


class Gating(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Squeeze and excitation between two convolutions with batch norm."""

    def __init__(self, norm: Callable[..., Any]) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(), norm(6), nn.SiLU())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 2, 1), nn.ReLU(), nn.Conv2d(2, 6, 1), nn.Sigmoid()
        )
        self.last = nn.Sequential(conv(4, 1, inputs=6), norm(4))

    def forward(self, x: Any) -> Any:
        """Return the gated convolution."""
        x = self.first(x)
        return self.last(x * self.gate(x))


class FakeQuant(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Rounds to steps as quantisation-aware training does."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Any) -> Any:
        """Return x on the grid."""
        return torch.fake_quantize_per_tensor_affine(x, self.step, 0, -128, 127)


class Steps(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Applies a module to each step of a sequence."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Any) -> Any:
        """Return the results, by step."""
        y = self.block(x.reshape(-1, *x.shape[2:]))
        return y.reshape(-1, x.shape[1], *y.shape[1:])


class OnAxis(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Batch norm along another axis than that of the channels, by exchanging the two."""

    def __init__(self, norm: nn.Module, axis: int) -> None:
        super().__init__()
        self.norm, self.axis = norm, axis

    def forward(self, x: Any) -> Any:
        """Return x, normalised along the axis."""
        return self.norm(x.transpose(1, self.axis)).transpose(1, self.axis)


class InHalf(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Computes a block in float16 between float32 input and output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block.half()

    def forward(self, x: Any) -> Any:
        """Return the result in float32."""
        return self.block(x.half()).float()


def conv(filters: int = 6, size: int = 3, *, inputs: int = 3, bias: bool = False, **how: Any) -> nn.Conv2d:
    """Return a convolution with zero padding and no bias."""
    return nn.Conv2d(inputs, filters, size, **({"padding": size // 2, "bias": bias} | how))


def _shared(norm: Callable[..., Any]) -> nn.Module:
    both = norm(6)
    return Joined(torch.add, nn.Sequential(conv(), both), nn.Sequential(conv(6, 1), both, nn.ReLU()))


def _nested(norm: Callable[..., Any]) -> nn.Module:
    inner = nn.Sequential(conv(3), norm(3), nn.ReLU())
    return nn.Sequential(inner, inner, conv(4))


def _pre_activation(norm: Callable[..., Any]) -> nn.Module:
    block = [nn.Sequential(norm(6), nn.ReLU(), conv(inputs=6)) for _ in range(2)]
    return Twice(conv(), nn.Sequential(*block))


def _residual(norm: Callable[..., Any]) -> nn.Module:
    block = nn.Sequential(conv(stride=2), norm(6), nn.ReLU(), conv(inputs=6), norm(6))
    short = nn.Sequential(conv(6, 1, stride=2), norm(6))
    return Joined(torch.add, block, short, after=nn.ReLU())


def _concatenated(*parts: Any) -> Any:
    return torch.cat(parts, 1)


Builder = Callable[[Callable[..., Any]], nn.Module]
S = nn.Sequential
BUILDERS: dict[str, Builder] = {
    "conv": lambda norm: S(conv(), norm(6), nn.ReLU()),
    "conv-bias": lambda norm: S(conv(bias=True), norm(6), nn.ReLU()),
    "conv-strided": lambda norm: S(conv(stride=2), norm(6)),
    "conv-dilated": lambda norm: S(conv(dilation=2, padding=2), norm(6), nn.ReLU()),
    "conv-valid": lambda norm: S(conv(padding=0), norm(6), nn.ReLU()),
    "conv-padded": lambda norm: S(nn.ZeroPad2d(1), conv(padding=0, stride=2), norm(6)),
    "conv-1d": lambda norm: S(nn.Conv1d(4, 6, 3, padding=1, bias=False), norm(6, nn.BatchNorm1d), nn.ReLU()),
    "conv-3d": lambda norm: S(nn.Conv3d(2, 4, 3, padding=1, bias=False), norm(4, nn.BatchNorm3d), nn.ReLU()),
    "depthwise": lambda norm: S(conv(3, groups=3), norm(3), nn.ReLU6()),
    "depthwise-multiplied": lambda norm: S(conv(6, groups=3), norm(6)),
    "separable": lambda norm: S(conv(3, groups=3), conv(6, 1), norm(6), nn.ReLU()),
    "grouped": lambda norm: S(conv(6, 1), conv(6, inputs=6, groups=3), norm(6), nn.ReLU()),
    "transposed": lambda norm: S(
        nn.ConvTranspose2d(3, 6, 3, stride=2, padding=1, output_padding=1), norm(6), nn.ReLU()
    ),
    "dense": lambda norm: S(nn.Linear(12, 8, bias=False), norm(8, nn.BatchNorm1d), nn.ReLU()),
    "dense-square": lambda norm: S(nn.Linear(12, 12), norm(12, nn.BatchNorm1d)),
    "dense-sequence": lambda norm: S(nn.Linear(7, 6, bias=False), OnAxis(norm(6, nn.BatchNorm1d), 2), nn.ReLU()),
    "before-conv": lambda norm: S(norm(3), conv(bias=True)),
    "before-conv-valid": lambda norm: S(norm(3), conv(bias=True, padding=0)),
    "before-depthwise": lambda norm: S(norm(3), conv(3, groups=3, bias=True)),
    "before-dense": lambda norm: S(norm(12, nn.BatchNorm1d), nn.Linear(12, 5)),
    "before-transposed": lambda norm: S(norm(3), nn.ConvTranspose2d(3, 6, 3, stride=2, padding=1, output_padding=1)),
    "between": lambda norm: S(conv(), norm(6), conv(5, inputs=6, bias=True)),
    "pre-activation": _pre_activation,
    "residual": _residual,
    "two-in-a-row": lambda norm: S(conv(), norm(6), norm(6), nn.ReLU()),
    "after-relu": lambda norm: S(conv(bias=True), nn.ReLU(), norm(6), conv(4, inputs=6)),
    "after-concat": lambda norm: Joined(_concatenated, conv(4), conv(4, 1, bias=True), after=S(norm(8), nn.ReLU())),
    "after-add": lambda norm: Joined(torch.add, conv(4), conv(4, 1, bias=True), after=norm(4)),
    "after-average-pool": lambda norm: S(conv(), nn.AvgPool2d(2), norm(6), nn.ReLU()),
    "after-max-pool": lambda norm: S(conv(), nn.MaxPool2d(2), norm(6), nn.ReLU()),
    "after-global-pool": lambda norm: S(
        conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm(6, nn.BatchNorm1d), nn.Linear(6, 4)
    ),
    "after-flatten": lambda norm: S(conv(3, stride=2), nn.Flatten(), norm(48, nn.BatchNorm1d), nn.Linear(48, 4)),
    "after-upsampling": lambda norm: S(conv(), nn.Upsample(scale_factor=2), norm(6)),
    "relu6": lambda norm: S(conv(), norm(6), nn.ReLU6()),
    "leaky-relu": lambda norm: S(conv(), norm(6), nn.LeakyReLU(0.3)),
    "swish": lambda norm: S(conv(), norm(6), nn.SiLU()),
    "hard-swish": lambda norm: S(conv(), norm(6), nn.Hardswish()),
    "softmax": lambda norm: S(nn.Linear(12, 5), norm(5, nn.BatchNorm1d), nn.Softmax(1)),
    "input": lambda norm: S(norm(3), conv(bias=True), nn.ReLU()),
    "output": lambda norm: S(conv(bias=True), nn.ReLU(), norm(6)),
    "alone": lambda norm: norm(3),
    "shared": _shared,
    "branch-twice": lambda norm: Twice(conv(), S(norm(6), nn.ReLU())),
    "nested": _nested,
    "time-distributed": lambda norm: Steps(S(conv(4, inputs=2), norm(4), nn.ReLU())),
    "other-axis": lambda norm: S(conv(), OnAxis(norm(8), 2), nn.ReLU()),
    "neither": lambda norm: S(conv(), norm(6, affine=False), nn.ReLU()),
    "gating": Gating,
    "fake-quant": lambda norm: S(FakeQuant(0.03), conv(), norm(6), nn.ReLU(), FakeQuant(0.05), conv(4, inputs=6)),
    "float16": lambda norm: InHalf(S(conv(), norm(6), nn.ReLU())),
    "tiny-variance": lambda norm: S(conv(), norm(6), nn.ReLU()),
    "large-epsilon": lambda norm: S(conv(), norm(6), nn.ReLU()),
    "huge-mean": lambda norm: S(norm(3), conv(padding=0)),
}
SHAPES = {
    "conv-1d": (4, 16),
    "conv-3d": (2, 5, 6, 6),
    "dense-sequence": (5, 7),
    "time-distributed": (3, 2, 6, 6),
} | dict.fromkeys(("dense", "dense-square", "before-dense", "softmax"), FEATURES)


def shape(name: str) -> tuple[int, ...]:
    """Return the shape of a pattern's input, without the batch."""
    return SHAPES.get(name, IMAGE)


def build(name: str) -> nn.Module:
    """Return a pattern's module in evaluation, its parameters random and the same each time."""
    pattern = BY_NAME[name]
    torch.manual_seed(1)

    def norm(channels: int, kind: type[nn.Module] = nn.BatchNorm2d, **how: Any) -> nn.Module:
        return kind(channels, eps=pattern.epsilon, **how)

    module = BUILDERS[name](norm).eval()
    fill(module, pattern)
    return module.requires_grad_(requires_grad=False)


def fill(module: nn.Module, pattern: Pattern) -> None:
    """Give every batch norm of a module, and every bias, numbers of its own."""
    numbers = generator(pattern.name)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            own = parameters(pattern, (part.num_features,), numbers)
            targets = {"mean": part.running_mean, "variance": part.running_var, "gamma": part.weight, "beta": part.bias}
            for key, target in targets.items():
                if target is not None:
                    target.data = torch.from_numpy(own[key]).to(target.dtype)
