"""Every way in which PyTorch writes a batch norm, with a file for each: what docs/explanation/torch.md lists."""

from __future__ import annotations

import contextlib
import json
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import torch_operators

from bninspect import formats
from bninspect.errors import BninspectError
from bninspect.formats.torch.norm_operators import OPERATORS, PARTS, STANDARD
from bninspect.formats.torch.pure_operators import is_pure
from bninspect.records import Checkpoint, Statistics

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

EPSILON = 0.0078125
VALUES = {
    "training": "False",
    "use_input_stats": "False",
    "cudnn_enabled": "True",
    "momentum": "0.25",
    "exponential_average_factor": "0.25",
    "eps": str(EPSILON),
    "epsilon": str(EPSILON),
    "output_scale": "0.5",
    "output_zero_point": "3",
    "qx_scale": "0.5",
    "qx_zero_point": "3",
    "output_dtype": "13",
    "input": "x",
    "weight": "self.weight",
    "bias": "self.bias",
    "invstd": "x",
    "running_mean": "self.running_mean",
    "running_var": "self.running_var",
}


def _schemas() -> dict[str, Any]:
    found = {}
    for schema in torch._C._jit_get_all_schemas():
        if not schema.overload_name:
            found[schema.name.removeprefix("aten::")] = schema
    return found


SCHEMAS = _schemas()


def test_the_table_is_what_torch_has() -> None:
    for name, operator in OPERATORS.items():
        names = tuple(STANDARD.get(argument.name, argument.name) for argument in SCHEMAS[name].arguments)
        assert operator.arguments == names
    norms = {name for name in SCHEMAS if "batch_norm" in name or "instance_norm" in name}
    assert {name for name in norms if "backward" not in name} == OPERATORS.keys() | PARTS


def test_the_list_of_operators_that_only_compute_is_what_torch_has() -> None:
    found = torch_operators.pure()
    text = torch_operators.LIST.read_text()
    for namespace, names in found.items():
        prefix = "" if namespace == "aten" else f"{namespace}::"
        assert [name for name in names if not is_pure(prefix + name)] == [], f"{namespace}: write the lists anew"
    assert "from_file" not in text
    assert all(not is_pure(name) for name in ("save", "from_file", "prim::Print", "prim::rpc_sync", "set_", "wait"))


def _norm() -> Any:
    torch.manual_seed(2)
    norm = torch.nn.BatchNorm2d(3).eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand(3) + 0.5)
    return norm


def _scripted(path: Path, call: str) -> Checkpoint:
    """Return what is read of a module whose forward makes a call."""

    class Bare(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            norm = _norm()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, getattr(norm, name).detach())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(Bare())
        scripted.define(f"def call(self, x: Tensor):\n    return {call}\n")
        scripted.save(path / "m.pt")
    return formats.read(path / "m.pt")


def _exported(path: Path, operator: str) -> Checkpoint:
    """Return what is read of an exported batch norm whose node is of another operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(_norm(), (torch.ones(2, 3, 4, 4),)), path / "m.pt2")
    with zipfile.ZipFile(path / "m.pt2") as source, zipfile.ZipFile(path / "n.pt2", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("models/model.json"):
                model = json.loads(data)
                (node,) = (one for one in model["graph_module"]["graph"]["nodes"] if "batch_norm" in one["target"])
                given = {one["name"]: one["arg"] for one in node["inputs"]}
                given |= {"exponential_average_factor": given["momentum"], "epsilon": given["eps"]}
                given |= {"use_input_stats": given["training"], "invstd": given["input"]}
                namespace, _, short = operator.rpartition("::")
                node["target"] = f"torch.ops.{namespace or 'aten'}.{short}.default"
                names = [argument.name for argument in SCHEMAS[operator].arguments]
                standard = {name: given.get(STANDARD.get(name, name), {"as_float": 0.5}) for name in names}
                node["inputs"] = [{"name": name, "arg": value, "kind": 1} for name, value in standard.items()]
                data = json.dumps(model).encode()
            target.writestr(name, data)
    return formats.read(path / "n.pt2")


ALWAYS = {name for name, operator in OPERATORS.items() if operator.statistics is Statistics.BATCH}


@pytest.mark.parametrize("writer", ["script", "export"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_each_operator_is_a_layer(tmp_path: Path, operator: str, writer: str) -> None:
    namespace, _, name = operator.rpartition("::")
    if writer == "script":
        given = ", ".join(VALUES[argument] for argument in OPERATORS[operator].arguments)
        checkpoint = _scripted(tmp_path, f"torch.ops.{namespace or 'aten'}.{name}({given})")
    else:
        checkpoint = _exported(tmp_path, operator)
    (layer,) = checkpoint.layers
    assert checkpoint.unread == ()
    assert layer.epsilon == (EPSILON if writer == "script" else 1e-5)
    assert layer.statistics is (Statistics.BATCH if operator in ALWAYS else Statistics.MOVING)
    if "momentum" in OPERATORS[operator].arguments:
        assert layer.momentum == (0.75 if writer == "script" else 0.9)
    norm = _norm()
    if operator != "batch_norm_elemt":
        np.testing.assert_array_equal(layer.arrays["moving_variance"], norm.running_var.numpy())
    np.testing.assert_array_equal(layer.arrays["gamma"], norm.weight.detach().numpy())


WAYS = {
    "without running statistics": (
        "torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.1, 0.25, True)",
        "batch",
    ),
    "training": (
        "torch.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, True, 0.1, 0.25, True)",
        "batch",
    ),
    "of nothing": ("torch.batch_norm(x, None, None, None, None, True, 0.1, 0.25, True)", "batch"),
    "of samples": ("torch.instance_norm(x, None, None, None, None, True, 0.1, 0.25, True)", "none"),
    "of an overload without them": ("torch._native_batch_norm_legit(x, self.weight, None, True, 0.1, 0.25)", "batch"),
    "computed": (
        "torch.batch_norm(x, self.weight, self.bias, x.mean((0, 2, 3)), self.running_var, False, 0.1, 0.25, True)",
        "computed",
    ),
    "mode unknown": (
        "torch.batch_norm(x, None, None, self.running_mean, self.running_var, bool(x.sum() > 0), 0.1, 0.25, True)",
        "unread",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_to_call_it_in_torchscript(tmp_path: Path, name: str) -> None:
    call, what = WAYS[name]
    checkpoint = _scripted(tmp_path, call)
    named = [layer for layer in checkpoint.layers if layer.class_name != "Bare"]
    if what == "unread":
        assert [one.count for one in checkpoint.unread] == [1]
        assert named == []
        return
    assert checkpoint.unread == ()
    assert [layer.statistics.value for layer in named] == ([] if what == "none" else [what])
    assert all(layer.epsilon == 0.25 for layer in named)


class Branching(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Batch norms in branches and loops, called twice, and of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _norm(), torch.nn.BatchNorm2d(3, eps=0.5), torch.nn.BatchNorm2d(3)
        self.batch = torch.nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: torch.Tensor, turns: int) -> torch.Tensor:
        """Return something."""
        x = self.first(x)
        if bool(x.sum() > 0):
            x = self.second(x)
        else:
            for _ in range(turns):
                x = torch.nn.functional.batch_norm(x, self.third.running_mean, self.third.running_var, eps=0.125)
        return self.batch(self.first(x))


@pytest.mark.parametrize("frozen", [False, True])
def test_branches_loops_and_functions_of_torchscript(tmp_path: Path, frozen: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(Branching().eval())
        if frozen:
            scripted = torch.jit.freeze(scripted, optimize_numerics=False)
        scripted.save(tmp_path / "m.pt")
    checkpoint = formats.read(tmp_path / "m.pt")
    assert checkpoint.unread == ()
    found = {layer.epsilon: layer for layer in checkpoint.layers if layer.statistics is Statistics.MOVING}
    assert set(found) == {1e-5, 0.5, 0.125}
    assert (found[0.125].gamma, found[0.125].beta) == (None, None)
    assert [layer.epsilon for layer in checkpoint.layers if layer.statistics is Statistics.BATCH] == [1e-5]
    if not frozen:
        assert [layer.name for layer in checkpoint.layers] == ["first", "second", "third", "batch"]


class Bare(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Batch norms without a single number of their own: of two modules, of which one runs twice, and of a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (torch.nn.BatchNorm2d(3, affine=False, track_running_stats=False) for _ in "ab")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return something."""
        x = torch.nn.functional.batch_norm(self.second(self.first(self.first(x))), None, None, training=True)
        return torch.nn.functional.batch_norm(x, None, None, training=True)


def test_without_parameters_each_is_a_layer_of_its_own(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Bare().eval()).save(tmp_path / "m.pt")
    layers = formats.read(tmp_path / "m.pt").layers
    assert sorted(layer.name for layer in layers) == ["batch_norm", "batch_norm#2", "first", "second"]
    assert {layer.statistics for layer in layers} == {Statistics.BATCH}


class Conditional(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Batch norms in the branches of torch.cond, under no_grad, and of what the graph computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _norm(), torch.nn.BatchNorm2d(3, eps=0.5), torch.nn.BatchNorm2d(3)
        self.batch = torch.nn.BatchNorm2d(3, track_running_stats=False)
        self.samples, self.kept = torch.nn.InstanceNorm2d(3), torch.nn.InstanceNorm2d(3, track_running_stats=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return something."""
        x = torch.cond(x.sum() > 0, self.first, lambda x: self.second(x) * 2, (x,))
        with torch.no_grad():
            x = self.third(x)
        x = torch.nn.functional.batch_norm(x, self.third.running_mean * 2, self.third.running_var)
        return self.batch(self.kept(self.samples(self.third(x))))


@pytest.mark.parametrize("decomposed", [False, True])
def test_graphs_within_an_exported_graph(tmp_path: Path, decomposed: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Conditional().eval(), (torch.ones(2, 3, 4, 4),))
        torch.export.save(program.run_decompositions() if decomposed else program, tmp_path / "m.pt2")
    checkpoint = formats.read(tmp_path / "m.pt2")
    assert {layer.name: (layer.epsilon, layer.statistics.value) for layer in checkpoint.layers} == {
        "first": (1e-5, "moving"),
        "second": (0.5, "moving"),
        "third": (1e-5, "moving"),
        "kept": (1e-5, "moving"),
        "batch": (1e-5, "batch"),
        "third#2": (1e-5, "computed"),
    }
    assert checkpoint.unread == ()
    (computed,) = (layer for layer in checkpoint.layers if layer.statistics is Statistics.COMPUTED)
    assert computed.moving_mean is None
    assert any("moving_mean" in note for note in computed.notes)
    assert checkpoint.code == ()


def test_one_batch_norm_in_two_modes_is_two_layers(tmp_path: Path) -> None:
    class Twice(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.bn = _norm()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bn = self.bn
            x = torch.nn.functional.batch_norm(self.bn(self.bn(x)), None, None, bn.weight, bn.bias, training=True)
            return torch.nn.functional.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=0.5)

    for save in ("traced", "exported"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = torch.ones(2, 3, 4, 4)
            if save == "traced":
                torch.jit.trace(Twice().eval(), x).save(tmp_path / "m.pt2")
            else:
                torch.export.save(torch.export.export(Twice().eval(), (x,)), tmp_path / "m.pt2")
        layers = formats.read(tmp_path / "m.pt2").layers
        assert [layer.name for layer in layers] == ["bn", "bn#2", "bn#3"]
        assert [layer.statistics.value for layer in layers] == ["moving", "batch", "moving"]
        assert [layer.epsilon for layer in layers] == [1e-5, 1e-5, 0.5]


def _source(path: Path, line: str) -> Checkpoint:
    """Return what is read of TorchScript whose source was edited."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(_norm(), torch.ones(2, 3, 4, 4)).save(path / "m.pt")
    with zipfile.ZipFile(path / "m.pt") as source, zipfile.ZipFile(path / "n.pt", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith(".py"):
                changed = data.replace(b"\n    return ", f"\n    {line}\n    return ".encode())
                assert changed != data
                data = changed
            target.writestr(name, data)
    return formats.read(path / "n.pt")


@pytest.mark.parametrize(
    "line",
    [
        'a = torch.save(input, "p")',
        'a = torch . from_file("p")',
        "f = torch.from_file",
        'a = input.save("p")',
        "f = input.save",
        "t = torch",
        "o = ops.prim",
        "a = ops.prim.rpc_sync(input)",
        "print(input)",
        "a = fork(input)",
        'a = getattr(torch, "from_file")',
        "a = __torch__.torch.classes.evil.Thing(input)",
    ],
)
def test_whatever_does_more_than_compute_is_found_however_it_is_called(tmp_path: Path, line: str) -> None:
    assert _source(tmp_path, "a = torch.relu(input)").code == ()
    assert _source(tmp_path, line).code != ()


@pytest.mark.parametrize(
    "line",
    [
        "a = " + "(" * 150 + "1" + ")" * 150,
        "a = " + "(" * 20_000 + "1" + ")" * 20_000,
        "a = input" + ".a" * 20_000,
        "a = " + "-" * 20_000 + "1",
        "a = [" + "[" * 90 + "]" * 90 + "]",
        "a = " + "9" * 5_000,
        "a = self.forward(self.forward(input))",
        "a = self.forward(self)\n    b = self.forward(a)",
        "def",
        "a = '\\ud800'",
        "a = torch.batch_norm()",
        "a = torch.batch_norm(*input, **self)",
        "a = torch.batch_norm(input, input, 1, 'x', [], {}, ..., 1e999, -1)",
        "a = torch.batch_norm(input, None, None, None, None, True, 1" + "0" * 400 + ", 1" + "0" * 400 + ", True)",
    ],
    ids=range(14),
)
def test_hostile_sources_are_read_or_refused(tmp_path: Path, line: str) -> None:
    with contextlib.suppress(BninspectError):
        _source(tmp_path, line)
