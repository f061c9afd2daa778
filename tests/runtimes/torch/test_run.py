"""PyTorch as a runtime: exported programs and TorchScript in their graph, state_dicts layer by layer."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.outcomes import observed, verified

from bninspect import formats
from bninspect.records import Evidence, LayerStatus, Status
from bninspect.settings import EpsilonRule, Settings
from bninspect.verdicts import verify_task

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

from helpers.torch_nets import save, settled


class Net(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.bn1 = torch.nn.BatchNorm2d(8, eps=1e-3)
        self.bn2 = torch.nn.BatchNorm2d(8, affine=False)
        self.fc = torch.nn.Linear(8, 5)
        self.bn3 = torch.nn.BatchNorm1d(5, eps=1e-7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv(x)))
        x = torch.relu(self.bn2(self.bn2(x)))
        return self.bn3(self.fc(x.mean((2, 3))))


X = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("kind", ["exported", "scripted", "traced"])
def test_every_call_is_what_the_module_computed(tmp_path: Path, kind: str) -> None:
    net = settled(Net())
    path = save(net, kind, tmp_path / "m.pt2", X, any_batch=True)
    truth: list[tuple[str, Any, Any]] = []
    for name in ("bn1", "bn2", "bn3"):
        module = getattr(net, name)
        module.register_forward_hook(lambda _, x, y, name=name: truth.append((name, x[0].numpy(), y.numpy())))
    np.save(tmp_path / "x.npy", X)
    with torch.no_grad():
        net(torch.from_numpy(X))
    run, seen = observed(path, input=tmp_path / "x.npy")
    assert run.evidence is Evidence.MODEL
    calls = [one for one in seen if one.observed == "in-model"]
    assert [one.layer for one in calls] == [name for name, _, _ in truth] == ["bn1", "bn2", "bn2", "bn3"]
    for call, (_, x, y) in zip(calls, truth, strict=True):
        np.testing.assert_allclose(call.x, x, rtol=0, atol=1e-5)
        np.testing.assert_allclose(call.y, y, rtol=0, atol=1e-5)
    assert {one.layer for one in seen if one.observed == "probed"} == {"bn1", "bn2", "bn3"}
    model = verified(path, input=str(tmp_path / "x.npy"))
    assert [layer.status for layer in model.layers] == [LayerStatus.VERIFIED] * 3


def test_exported_program_says_what_it_takes(tmp_path: Path) -> None:
    run, seen = observed(save(settled(Net()), "exported", tmp_path / "m.pt2", X, any_batch=True))
    assert run.evidence is Evidence.MODEL
    assert seen[0].x.shape == (1, 8, 4, 4)


def test_torchscript_does_not_and_says_so(tmp_path: Path) -> None:
    path = save(settled(Net()), "traced", tmp_path / "m.pt2", X, any_batch=True)
    run, seen = observed(path)
    assert run.evidence is Evidence.LAYER
    assert "--input-shape" in run.reason
    assert {one.observed for one in seen} == {"probed"}
    run, _ = observed(path, input_shapes={"": (1, 3, 9, 9)})
    assert run.evidence is Evidence.MODEL


def test_parameters_that_torch_loaded_are_compared(tmp_path: Path) -> None:
    path = save(settled(Net()), "exported", tmp_path / "m.pt2", X, any_batch=True)
    checkpoint = formats.read(path)
    first = checkpoint.layers[0]
    assert first.gamma is not None
    changed = replace(first, gamma=np.nextafter(first.gamma, np.float32(9)))
    tampered = replace(checkpoint, layers=(changed, *checkpoint.layers[1:]), sha256=None)
    model = verify_task.verify_checkpoint(tampered, Settings()).model
    assert [layer.status for layer in model.layers] == [LayerStatus.MISMATCH, *[LayerStatus.VERIFIED] * 2]
    assert "BN304" in {finding.rule for finding in model.layers[0].findings}


def test_operations_that_do_more_than_compute_are_not_run(tmp_path: Path) -> None:
    class Reads(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_file("/etc/hostname", size=1) + self.bn1(self.conv(x))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Reads().eval()).save(tmp_path / "m.pt")
    run, _ = observed(tmp_path / "m.pt", input_shapes={"": (1, 3, 9, 9)})
    assert run.evidence is Evidence.LAYER
    assert "from_file" in run.reason


def test_texts_that_torch_would_evaluate_are_not_handed_to_it(tmp_path: Path) -> None:
    import zipfile

    path = save(settled(Net()), "exported", tmp_path / "m.pt2", X, any_batch=True)
    assert formats.read(path).code == ()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("model.json"):
                changed = data.replace(b"Symbol('s", b"__import__('os').system('true') or Symbol('s")
                assert changed != data
                data = changed
            target.writestr(name, data)
    assert any("__import__" in one for one in formats.read(tmp_path / "bad.pt2").code)
    run, _ = observed(tmp_path / "bad.pt2")
    assert run.evidence is Evidence.LAYER


def test_state_dict_layer_by_layer(tmp_path: Path) -> None:
    net = settled(Net())
    torch.save(net.state_dict(), tmp_path / "m.pt")
    model = verified(tmp_path / "m.pt")
    assert {layer.reason for layer in model.layers} == {
        "the file does not state epsilon: supply it with --epsilon [GLOB=]VALUE, "
        "and --accept layer: there is no model to run it in"
    }
    rules = (EpsilonRule("bn1", 1e-3), EpsilonRule("bn2", 1e-5), EpsilonRule("bn3", 1e-7))
    from bninspect.verdicts import selection

    settings = Settings(epsilon=rules, accept=("layer",))
    checkpoint = selection.complete(formats.read(tmp_path / "m.pt"), settings)
    model = verify_task.verify_checkpoint(checkpoint, settings).model
    assert (model.status, model.evidence) == (Status.PASS, Evidence.LAYER)
    assert model.runtime == f"torch {torch.__version__}"
    assert all(comparison.elements == 64 * layer.channels for layer in model.layers for comparison in layer.comparisons)


@pytest.mark.parametrize("kind", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_itself_is_within_the_bound(tmp_path: Path, kind: str, dtype: str) -> None:
    generator = torch.Generator().manual_seed(1)
    norm = getattr(torch.nn, kind)(4, eps=1e-4).to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 3)
    shape = (5, 4, 3, 2, 3)[: 2 + int(kind[-2])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(norm, (torch.zeros(shape, dtype=getattr(torch, dtype)),))
        torch.export.save(program, tmp_path / "m.pt2")
    model = verified(tmp_path / "m.pt2")
    assert model.status is Status.PASS
    (layer,) = model.layers
    assert {one.observed for one in layer.comparisons} == {"in-model", "probed"}
