"""Batch norms that PyTorch takes apart into single operators, and what looks like them and is none."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.records import Checkpoint, Statistics

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

X = (2, 3, 4, 5)
EPSILON = 0.0078125


class ByHand(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Code that computes with four stored numbers per channel, m, v, g and b, of any shape."""

    def __init__(self, code: str, shape: tuple[int, ...] = (3, 1, 1)) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        for name in "mvgb":
            self.register_buffer(name, torch.rand(shape, generator=generator) + 0.5)
        self.code = code

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the code says."""
        names = {"x": x, "m": self.m, "v": self.v, "g": self.g, "b": self.b, "torch": torch, "e": EPSILON}
        result: torch.Tensor = eval(self.code, names)
        return result


def saved(path: Path, module: Any, kind: str = "exported", shape: tuple[int, ...] = X) -> Checkpoint:
    """Return what is read of a module that was saved."""
    x = torch.rand(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "exported":
            torch.export.save(torch.export.export(module, (x,)), path / "m.pt2")
        else:
            torch.jit.trace(module, x).save(path / "m.pt2")
    return formats.read(path / "m.pt2")


NORMS = {
    "centred": "(x - m) * torch.rsqrt(v + e) * g + b",
    "divided": "g * ((x - m) / torch.sqrt(v + e)) + b",
    "scale and shift": "x * (g * torch.rsqrt(v + e)) + (b - m * (g * torch.rsqrt(v + e)))",
    "a power": "(x - m) * (v + e) ** -0.5 * g + b",
    "a reciprocal": "(x - m) * torch.reciprocal((v + e).sqrt()) * g + b",
    "reversed": "torch.rsub(m, x) / (v + e).sqrt() * g + b",
    "in place": "(x - m).mul_((v + e).rsqrt_()).mul_(g).add_(b)",
}


@pytest.mark.parametrize("name", NORMS)
def test_whatever_the_order(tmp_path: Path, name: str) -> None:
    module = ByHand(NORMS[name])
    checkpoint = saved(tmp_path, module)
    (layer,) = checkpoint.layers
    assert checkpoint.unread == ()
    assert (layer.epsilon, layer.axis, layer.statistics) == (EPSILON, (1,), Statistics.MOVING)
    for field, buffer in {"gamma": "g", "beta": "b", "moving_mean": "m", "moving_variance": "v"}.items():
        np.testing.assert_array_equal(layer.arrays[field], getattr(module, buffer).numpy().ravel())


@pytest.mark.parametrize(("shape", "axis"), [((5,), 3), ((3, 1, 1), 1), ((1, 3, 1, 1), 1), ((1,), 1), ((1, 1, 1), 1)])
def test_the_axis_is_that_of_the_numbers(tmp_path: Path, shape: tuple[int, ...], axis: int) -> None:
    (layer,) = saved(tmp_path, ByHand(NORMS["centred"], shape)).layers
    assert layer.axis == (axis,)
    assert layer.channels == max(shape)


def test_without_gamma_and_beta(tmp_path: Path) -> None:
    (layer,) = saved(tmp_path, ByHand("(x - m) * torch.rsqrt(v + e)")).layers
    assert layer.arrays.keys() == {"moving_mean", "moving_variance"}


def test_epsilon_outside_of_the_root_is_said(tmp_path: Path) -> None:
    (layer,) = saved(tmp_path, ByHand("(x - m) / (torch.sqrt(v) + e) * g + b")).layers
    assert layer.epsilon == EPSILON
    assert any("outside" in note for note in layer.notes)


@pytest.mark.parametrize("primitive", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_table_of_decompositions_takes_it_apart(tmp_path: Path, training: bool, primitive: bool) -> None:
    aten = torch.ops.aten
    norm = torch.nn.BatchNorm2d(3, eps=EPSILON).train(training)
    with torch.no_grad():
        norm.running_mean.copy_(torch.rand(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = (aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten._native_batch_norm_legit)
        table = torch.export.default_decompositions()
        table.update(
            torch._decomp.get_decompositions([*names, aten.batch_norm, aten._native_batch_norm_legit_functional])
        )
        table = torch._decomp.decomposition_table if primitive else table
        program = torch.export.export(norm, (torch.rand(X),)).run_decompositions(table)
        assert "batch_norm" not in str(program.graph)
        torch.export.save(program, tmp_path / "m.pt2")
    (layer,) = formats.read(tmp_path / "m.pt2").layers
    assert layer.epsilon == EPSILON
    assert layer.statistics is (Statistics.BATCH if training else Statistics.MOVING)
    if not training:
        assert layer.axis == (1,)
        np.testing.assert_array_equal(layer.arrays["moving_mean"], norm.running_mean.numpy())


BY_BATCH = {
    "variance": "(x - x.mean((0, 2, 3), keepdim=True)) * (x.var((0, 2, 3), keepdim=True) + e).rsqrt()",
    "deviation": "(x - x.mean((0, 2, 3), keepdim=True)) / ((x * x).mean((0, 2, 3), keepdim=True) + e).sqrt()",
    "squares": "x * ((x * x).mean((0, 2, 3), True) - x.mean((0, 2, 3), True) ** 2 + e).rsqrt()",
    "sums": "(lambda d: d / ((d * d).sum((0, 2, 3), True) / 40 + e).sqrt())(x - x.sum((0, 2, 3), True) / 40)",
    "at least epsilon": "(x - x.mean((0, 2, 3), True)) * x.var((0, 2, 3), keepdim=True).clamp(min=e).rsqrt()",
    "outside": "(x - x.mean((0, 2, 3), True)) / (x.std((0, 2, 3), keepdim=True) + e)",
    "negative axes": "x * (x.var((-4, -2, -1), keepdim=True) + e).rsqrt()",
}
NONE = {
    "LayerNorm": "(x - x.mean((1, 2, 3), True)) * (x.var((1, 2, 3), keepdim=True) + e).rsqrt() * g + b",
    "InstanceNorm": "(x - x.mean((2, 3), True)) * (x.var((2, 3), keepdim=True) + e).rsqrt() * g + b",
    "RMSNorm": "x * ((x * x).mean((1, 2, 3), True) + e).rsqrt() * g",
    "scale and shift": "x * g + b",
    "a norm": "x / ((x * x).sum((1, 2, 3), True) + e).sqrt()",
    "GroupNorm": "torch.nn.functional.group_norm(x, 1) * g + b",
    "length over the batch": "x / ((x * x).sum((0, 2, 3), True) + e).sqrt()",
    "feature": "torch.cat([x, ((x - x.mean(0)) ** 2).mean(0).add(e).sqrt().mean().expand(2, 1, 4, 5)], 1)",
    "standardised": "(x - x.mean()) / (x.var() + e).sqrt()",
}


@pytest.mark.parametrize("kind", ["exported", "traced"])
@pytest.mark.parametrize("name", BY_BATCH)
def test_moments_over_the_batch_are_a_batch_norm(tmp_path: Path, name: str, kind: str) -> None:
    checkpoint = saved(tmp_path, ByHand(BY_BATCH[name]), kind)
    if kind == "traced":
        assert [one.count for one in checkpoint.unread] == [1]
    else:
        assert [(layer.statistics, layer.epsilon) for layer in checkpoint.layers] == [(Statistics.BATCH, EPSILON)]
        assert checkpoint.unread == ()


@pytest.mark.parametrize("kind", ["exported", "traced"])
@pytest.mark.parametrize("name", NONE)
def test_what_is_none_is_not_counted(tmp_path: Path, name: str, kind: str) -> None:
    checkpoint = saved(tmp_path, ByHand(NONE[name]), kind)
    assert (checkpoint.layers, checkpoint.unread) == ((), ())


def test_a_decomposed_instance_norm_is_none(tmp_path: Path) -> None:
    code = "(lambda y: (y - y.mean((0, 2, 3), True)) * (y.var((0, 2, 3), keepdim=True) + e).rsqrt())"
    checkpoint = saved(tmp_path, ByHand(f"{code}(x.view(1, 6, 4, 5)).view(2, 3, 4, 5)"))
    assert (checkpoint.layers, checkpoint.unread) == ((), ())


@pytest.mark.parametrize("name", [*NORMS, "outside"])
def test_in_torchscript_they_are_counted(tmp_path: Path, name: str) -> None:
    code = {**NORMS, "outside": "(x - m) / (torch.sqrt(v) + e) * g + b"}[name]
    checkpoint = saved(tmp_path, ByHand(code), "traced")
    assert checkpoint.layers == ()
    assert sum(one.count for one in checkpoint.unread) == (2 if name == "scale and shift" else 1)


def test_a_variance_that_is_moved_about_is_counted(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, ByHand("(x - m) * torch.rsqrt(v.flip(0) + e)"))
    assert checkpoint.layers == ()
    assert [(calls.where, calls.count) for calls in checkpoint.unread] == [("the graph", 1)]


def test_what_is_begun_and_not_finished_is_counted(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, ByHand("torch.relu(x - m) * torch.rsqrt(v + e)"))
    assert checkpoint.layers == ()
    assert [(one.where, one.count) for one in checkpoint.unread] == [("the graph", 1)]
