"""Batch norms in torch's loops, of its quantised and fused modules, and those that people write: a file for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bninspect import formats
from bninspect.records import Checkpoint, Statistics

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

X = (2, 3, 4, 4)


class _Held(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A module that is called by a function of its own."""

    def __init__(self, held: Any, call: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.held = held
        self.call = call

    def forward(self, x: Any) -> Any:
        """Return what the function makes of the module and data."""
        return self.call(self.held, x)


def _saved(path: Path, module: Any, how: str, shape: tuple[int, ...] = X) -> Checkpoint:
    x = torch.rand(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "exported":
            torch.export.save(torch.export.export(module.eval(), (x,)), path / "m.pt2")
        elif how == "traced":
            torch.jit.trace(module.eval(), x).save(path / "m.pt2")
        elif how == "state":
            torch.save(module.state_dict(), path / "m.pt2")
        else:
            torch.save(module.eval(), path / "m.pt2")
    return formats.read(path / "m.pt2")


def _scanned(norm: Any, x: Any) -> Any:
    from torch._higher_order_ops import scan

    return scan(lambda total, one: (total + norm(one).sum(), norm(one) + 0), torch.zeros(()), x)[1]


def _mapped(norm: Any, x: Any) -> Any:
    from torch._higher_order_ops.map import map as mapped

    return mapped(lambda one: norm(one) + 0, x)


def _looped(norm: Any, x: Any) -> Any:
    from torch._higher_order_ops import while_loop

    step = torch.tensor(0)
    return while_loop(lambda step, _: step < 3, lambda step, y: (step + 1, norm(y) + 0), (step, x))[1]


def _chosen(norm: Any, x: Any) -> Any:
    return torch.cond(x.sum() > 0, lambda x: norm(x) + 0, lambda x: x * 2, (x,))


LOOPS = {"scan": (_scanned, 4), "map": (_mapped, 4), "while": (_looped, 3), "cond": (_chosen, 3)}


@pytest.mark.parametrize("kind", LOOPS)
def test_in_graphs_within_the_graph(tmp_path: Path, kind: str) -> None:
    call, channels = LOOPS[kind]
    norm = torch.nn.BatchNorm1d(4, eps=0.25) if channels == 4 else torch.nn.BatchNorm2d(3, eps=0.25)
    found = _saved(tmp_path, _Held(norm, call), "exported")
    assert {(layer.name, layer.epsilon, layer.channels) for layer in found.layers} == {("held", 0.25, channels)}
    assert found.unread == ()


def _quantised(norm: Any, x: Any) -> Any:
    return torch.dequantize(norm(torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)))


def _modules() -> dict[str, tuple[Any, Any, tuple[int, ...]]]:
    """Return modules of torch.ao, as what each is traced, and the shape of its data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn import intrinsic, quantized
        from torch.ao.nn.intrinsic import quantized as fused
        from torch.ao.nn.intrinsic.qat import ConvBn2d, ConvBnReLU2d
        from torch.ao.quantization import get_default_qat_qconfig

        nn = torch.nn
        setting = get_default_qat_qconfig("fbgemm")
        flat, deep = _Held(quantized.BatchNorm2d(3), _quantised), _Held(quantized.BatchNorm3d(3), _quantised)
        return {
            "BatchNorm2d": (flat.held, flat, X),
            "BatchNorm3d": (deep.held, deep, (2, 3, 2, 4, 4)),
            "BNReLU2d": (fused.BNReLU2d(3), _Held(fused.BNReLU2d(3), _quantised), X),
            "ConvBn2d": (intrinsic.ConvBn2d(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), None, X),
            "training ConvBn2d": (ConvBn2d(3, 4, 3, qconfig=setting), None, X),
            "training ConvBnReLU2d": (ConvBnReLU2d(3, 4, 3, qconfig=setting), None, X),
            "LinearBn1d": (intrinsic.LinearBn1d(nn.Linear(4, 5), nn.BatchNorm1d(5)), None, (3, 4)),
            "Sync": (nn.SyncBatchNorm(3), None, X),
        }


@pytest.mark.parametrize("how", ["traced", "module", "state"])
@pytest.mark.parametrize("kind", _modules())
def test_quantised_fused_and_synchronised_modules(tmp_path: Path, kind: str, how: str) -> None:
    module, traced, shape = _modules()[kind]
    found = _saved(tmp_path, traced if traced is not None and how == "traced" else module, how, shape)
    assert len(found.layers) == 1
    assert found.layers[0].statistics is Statistics.MOVING
    assert found.unread == ()  # the root by which a kernel is scaled in training, and the data behind it, is none


class FoldsItself(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Folds its batch norm into the kernel as it runs, which nothing undoes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        """Return the convolution with the kernel of both."""
        scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        shift = self.norm.bias - self.norm.running_mean * scale
        return torch.nn.functional.conv2d(x, self.convolution.weight * scale.reshape(-1, 1, 1, 1), shift)


def test_what_folds_itself_is_counted(tmp_path: Path) -> None:
    assert sum(calls.count for calls in _saved(tmp_path, FoldsItself(), "traced", X).unread) == 1


class FrozenBatchNorm2d(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """As torchvision has it: four buffers and an epsilon."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = 0.25
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(3) + 0.5)

    def forward(self, x: Any) -> Any:
        """Return the formula, computed as torchvision does."""
        weight, bias, mean, variance = (
            value.reshape(1, -1, 1, 1) for value in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        scale = weight * (variance + self.eps).rsqrt()
        return x * scale + (bias - mean * scale)


class BatchRenorm(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """As people write batch renormalisation: a running deviation in the place of a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(torch.rand(3)), torch.nn.Parameter(torch.rand(3))
        self.register_buffer("running_mean", torch.rand(3))
        self.register_buffer("running_std", torch.rand(3) + 0.5)
        self.register_buffer("num_batches_tracked", torch.tensor(7))

    def forward(self, x: Any) -> Any:
        """Return what it computes at inference."""
        mean, deviation, weight, bias = (
            value.reshape(-1, 1, 1) for value in (self.running_mean, self.running_std, self.weight, self.bias)
        )
        return weight * (x - mean) / deviation + bias


@pytest.mark.parametrize("how", ["exported", "traced", "module", "state"])
def test_frozen_batch_norm_is_a_layer(tmp_path: Path, how: str) -> None:
    found = _saved(tmp_path, torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), FrozenBatchNorm2d()), how)
    (layer,) = found.layers
    assert layer.name.startswith("1")
    assert layer.epsilon == (0.25 if how == "exported" else None)
    assert len(found.unread) == (how == "traced")


@pytest.mark.parametrize("how", ["exported", "traced", "module", "state"])
def test_batch_renormalisation_by_a_deviation_is_counted(tmp_path: Path, how: str) -> None:
    found = _saved(tmp_path, torch.nn.Sequential(BatchRenorm(), torch.nn.BatchNorm2d(3)), how)
    assert len(found.layers) == 1
    assert [calls.count for calls in found.unread] == [1]
