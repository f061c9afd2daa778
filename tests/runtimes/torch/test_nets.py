"""Networks with operations in place behind their batch norms, saved in every way, in torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import torch_nets

from bninspect import formats
from bninspect.records import LayerStatus, Status
from bninspect.settings import EpsilonRule, Settings
from bninspect.verdicts import selection, verify_task

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")


@pytest.mark.parametrize("kind", ["traced", "scripted", "frozen", "exported", "decomposed"])
@pytest.mark.parametrize("name", torch_nets.NETS)
def test_graphs_pass_with_all_their_batch_norms(tmp_path: Path, name: str, kind: str) -> None:
    path = torch_nets.save(torch_nets.made(name), kind, tmp_path / "m.pt2")
    checkpoint = formats.read(path)
    assert (checkpoint.code, checkpoint.unread) == ((), ())
    model = verify_task.verify_checkpoint(checkpoint, Settings(input_shapes={"": torch_nets.SHAPE})).model
    assert (model.status, len(model.layers)) == (Status.PASS, torch_nets.COUNTS[name])
    assert all("in-model" in {one.observed for one in layer.comparisons} for layer in model.layers)


@pytest.mark.parametrize("kind", ["state_dict", "legacy state_dict", "module", "legacy module"])
@pytest.mark.parametrize("name", torch_nets.NETS)
def test_files_without_a_graph_pass_layer_by_layer(tmp_path: Path, name: str, kind: str) -> None:
    net = torch_nets.made(name)
    path = torch_nets.save(net, kind, tmp_path / "m.pt")
    rules = () if kind.endswith("module") else (EpsilonRule("*", 1e-5),)
    settings = Settings(epsilon=rules, accept=("layer",))
    checkpoint = selection.complete(formats.read(path), settings)
    model = verify_task.verify_checkpoint(checkpoint, settings).model
    assert (model.status, len(model.layers)) == (Status.PASS, torch_nets.COUNTS[name])
    if kind.endswith("module"):
        assert {layer.name: layer.epsilon for layer in checkpoint.layers} == {
            path: module.eps for path, module in net.named_modules() if isinstance(module, torch.nn.BatchNorm2d)
        }


def test_no_loader_gets_a_pickled_module(tmp_path: Path) -> None:
    path = torch_nets.save(torch_nets.made("ResNet"), "module", tmp_path / "m.pt")
    for trust in (False, True):
        model = verify_task.verify_checkpoint(formats.read(path), Settings(trust=trust)).model
        assert {layer.status for layer in model.layers} == {LayerStatus.UNVERIFIED}


def test_layers_that_are_alike_are_told_apart(tmp_path: Path) -> None:
    """Freezing makes one constant of equal parameters, with the name of one of them."""
    net = torch.nn.Sequential(*(torch.nn.BatchNorm2d(3, eps=eps) for eps in (1e-5, 1e-5, 1e-3))).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(tmp_path / "m.pt")
    settings = Settings(input_shapes={"": (2, 3, 4, 4)})
    model = verify_task.verify_checkpoint(formats.read(tmp_path / "m.pt"), settings).model
    assert [(layer.name, layer.status) for layer in model.layers] == [(str(n), LayerStatus.VERIFIED) for n in range(3)]


class Branching(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A batch norm in a branch, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3, eps=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return something."""
        x = self.always(x)
        if bool(x.sum() > 100):
            x = self.sometimes(x)
        return x


def test_a_branch_leaves_its_own_batch_norms_unverified(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Branching().eval()).save(tmp_path / "m.pt")
    settings = Settings(input_shapes={"": (2, 3, 4, 4)})
    model = verify_task.verify_checkpoint(formats.read(tmp_path / "m.pt"), settings).model
    always, sometimes = model.layers
    assert (always.status, sometimes.status) == (LayerStatus.VERIFIED, LayerStatus.UNVERIFIED)
    assert "branch" in sometimes.reason
