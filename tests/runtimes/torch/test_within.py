"""Batch norms within graphs of an exported graph, in pieces, and behind several inputs: looked at as the model runs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.records import LayerStatus, ModelReport, Status
from bninspect.settings import Settings
from bninspect.verdicts import verify_task

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

X = (2, 3, 4, 5)


def _norm(epsilon: float = 1e-3) -> Any:
    norm = torch.nn.BatchNorm2d(3, eps=epsilon)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand(3) + 0.5)
    return norm.eval()


class Within(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A batch norm under no_grad, one under autocast, one in each branch of a condition within no_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet, self.cast, self.taken, self.other = _norm(), _norm(), _norm(), _norm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return something."""
        with torch.no_grad():
            x = torch.relu(self.quiet(x))
        with torch.autocast("cpu", enabled=False):
            x = self.cast(x + 1)
        return torch.cond(x.sum() < 1e9, lambda y: self.taken(y * 2), lambda y: self.other(y * 3), (x,)) + 1


def _verified(path: Path, module: Any) -> ModelReport:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module.eval(), (torch.rand(X),)), path / "m.pt2")
    # Lengths of a loop are texts that torch evaluates; these are our own.
    return verify_task.verify_checkpoint(formats.read(path / "m.pt2"), Settings(trust=True)).model


def test_what_runs_within_is_verified_and_a_branch_that_does_not_run_is_not(tmp_path: Path) -> None:
    report = _verified(tmp_path, Within())
    statuses = {layer.name: layer.status for layer in report.layers}
    assert statuses.pop("other") is LayerStatus.UNVERIFIED
    assert statuses == dict.fromkeys(("quiet", "cast", "taken"), LayerStatus.VERIFIED)
    assert all(
        {one.observed for one in layer.comparisons} >= {"in-model"} for layer in report.layers if layer.name != "other"
    )
    (reason,) = (layer.reason for layer in report.layers if layer.name == "other")
    assert "did not run" in reason


def test_a_loop_is_said_to_be_one(tmp_path: Path) -> None:
    class Loop(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.bn = _norm()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = torch.zeros((), dtype=torch.int64)
            return torch.while_loop(lambda n, _: n < 2, lambda n, x: (n + 1, self.bn(x).clone()), (n, x))[1]

    report = _verified(tmp_path, Loop())
    assert [layer.status for layer in report.layers] == [LayerStatus.UNVERIFIED]
    assert "any number of times" in report.layers[0].reason


class ByHand(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A batch norm that code computes, behind a convolution."""

    def __init__(self, *, outside: bool) -> None:
        super().__init__()
        self.conv, self.outside, norm = torch.nn.Conv2d(3, 3, 1), outside, _norm()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().reshape(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return it."""
        x = self.conv(x) - self.running_mean
        root = torch.sqrt(self.running_var) + 1e-3 if self.outside else torch.sqrt(self.running_var + 1e-3)
        return torch.relu_(x / root * self.weight + self.bias)


def test_pieces_are_verified(tmp_path: Path) -> None:
    report = _verified(tmp_path, ByHand(outside=False))
    assert report.status is Status.PASS
    assert {one.observed for one in report.layers[0].comparisons} == {"in-model", "probed"}


def test_epsilon_outside_of_the_root_fails_with_that_cause(tmp_path: Path) -> None:
    report = _verified(tmp_path, ByHand(outside=True))
    assert report.status is Status.FAIL
    assert "epsilon added outside the square root" in str(report.layers[0])


class Several(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Two tensors, a number, and one that has a default."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = _norm(), _norm()

    def forward(self, x: torch.Tensor, y: torch.Tensor, n: int, factor: float = 2.0) -> torch.Tensor:
        """Return something."""
        return self.first(x) * n + self.second(y) * factor


def test_torchscript_with_several_inputs(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Several().eval()).save(tmp_path / "m.pt")
    checkpoint = formats.read(tmp_path / "m.pt")
    arrays = {name: np.random.default_rng(0).normal(size=X).astype(np.float32) for name in "xy"}
    np.savez(tmp_path / "x.npz", x=arrays["x"], y=arrays["y"], n=np.array(3))
    for settings in (
        Settings(input_shapes={"x": X, "y": X}),
        Settings(input=str(tmp_path / "x.npz")),
    ):
        report = verify_task.verify_checkpoint(checkpoint, settings).model
        assert report.status is Status.PASS
        assert all({one.observed for one in layer.comparisons} >= {"in-model"} for layer in report.layers)
    unshaped = verify_task.verify_checkpoint(checkpoint, Settings(input_shapes={"x": X})).model
    assert unshaped.status is not Status.PASS
