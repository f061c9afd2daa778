"""Files that hold weights alone, as the model and as the other file: their numbers are compared, and nothing is run."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.exports import causes, counterparts, statuses

from bninspect import formats
from bninspect.equivalence import by_name, task
from bninspect.formats.named_kernels import NamedKernel
from bninspect.records import BatchNorm, Evidence, LayerStatus, ModelReport, Status
from bninspect.records.graph import CONVOLUTION, Kernel
from bninspect.settings import EpsilonRule, Settings
from bninspect.verdicts import selection

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")

from helpers.torch_nets import with_norms_filled

SETTINGS: dict[str, Any] = {"epsilon": (EpsilonRule("*", 1e-5),), "accept": ("layer", "numbers")}


def held(source: Path, export: Path, **settings: Any) -> ModelReport:
    """Return what `verify SOURCE --against EXPORT` reports, the epsilon of the settings given to layers without one."""
    chosen = Settings(**settings)
    return task.compare(selection.complete(formats.read(source), chosen), formats.read(export), chosen).model


class Net(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Convolutions as wide as their input, so that neither shape nor width tells which is which, or transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(6, 6, 3, padding=1), torch.nn.BatchNorm2d(6)
        self.conv2, self.bn2 = torch.nn.Conv2d(6, 6, 3, padding=1, bias=False), torch.nn.BatchNorm2d(6)
        self.up, self.head = torch.nn.ConvTranspose2d(6, 6, 2), torch.nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.head(self.up(x).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(6)
    built = Net()
    return with_norms_filled(built)


def parameters(net: Any, path: Path) -> Path:
    torch.save(net.state_dict(), path)
    return path


def program(net: Any, path: Path) -> Path:
    torch.export.save(torch.export.export(net, (torch.zeros(1, 6, 5, 5),)), path)
    return path


def folded(net: Any) -> Any:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    copied = copy.deepcopy(net)
    for number in ("1", "2"):
        conv, norm = getattr(copied, f"conv{number}"), getattr(copied, f"bn{number}")
        setattr(copied, f"conv{number}", fuse_conv_bn_eval(conv, norm))
        setattr(copied, f"bn{number}", torch.nn.Identity())
    return copied


@pytest.mark.parametrize("fold", [False, True])
def test_weights_are_enough_for_who_says_so(net: Any, fold: bool, tmp_path: Path) -> None:
    weights, export = parameters(net, tmp_path / "m.pth"), program(folded(net) if fold else net, tmp_path / "m.pt2")
    model = held(weights, export, **SETTINGS)
    assert model.status is Status.PASS, (model.against, counterparts(model))
    assert model.against is not None
    assert model.against.evidence is Evidence.NUMBERS
    assert {one.how for one in counterparts(model).values()} == {"folded" if fold else "batch norm"}


def test_without_a_word_they_leave_the_gate_closed(net: Any, tmp_path: Path) -> None:
    weights, export = parameters(net, tmp_path / "m.pth"), program(net, tmp_path / "m.pt2")
    model = held(weights, export, **{**SETTINGS, "accept": ("layer",)})
    assert model.status is Status.ERROR
    assert "--accept numbers" in counterparts(model)["bn1"].sentence


def test_what_is_folded_with_an_unknown_epsilon_accuses_nobody(net: Any, tmp_path: Path) -> None:
    weights, export = parameters(net, tmp_path / "m.pth"), program(folded(net), tmp_path / "m.pt2")
    model = held(weights, export, accept=("layer", "numbers"))
    assert (model.status, model.against and model.against.open) == (Status.ERROR, ())
    assert [one.rule for one in model.findings if one.rule.startswith("BN4")] == []
    assert "--epsilon" in counterparts(model)["bn1"].sentence


@pytest.mark.parametrize("kind", ["pth", "safetensors", "legacy"])
def test_weights_as_the_other_file(net: Any, kind: str, tmp_path: Path) -> None:
    weights = tmp_path / f"m.{kind}"
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file(
            net.state_dict(), weights
        )
    else:
        torch.save(net.state_dict(), weights, _use_new_zipfile_serialization=kind == "pth")
    model = held(program(net, tmp_path / "m.pt2"), weights, accept=("numbers",))
    assert model.status is Status.PASS, (model.against, counterparts(model))


@pytest.mark.parametrize(("wanted", "epsilon"), [(Status.PASS, 1e-5), (Status.FAIL, 1e-3)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gguf_that_a_converter_folded_by_hand(
    net: Any, tmp_path: Path, dtype: str, wanted: Status, epsilon: float
) -> None:
    package = pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf")
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
        gamma, beta, mean, variance = (
            state.pop(f"{norm}.{name}") for name in ("weight", "bias", "running_mean", "running_var")
        )
        del state[f"{norm}.num_batches_tracked"]
        slope = gamma / np.sqrt(variance + np.float32(epsilon))
        state[f"{conv}.bias"] = (state.get(f"{conv}.bias", np.float32(0)) - mean) * slope + beta
        state[f"{conv}.weight"] = (state[f"{conv}.weight"] * slope[:, None, None, None]).astype(dtype)
    writer = package.GGUFWriter(tmp_path / "m.gguf", "clip")
    for name, array in state.items():
        writer.add_tensor(f"v.{name}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = held(parameters(net, tmp_path / "m.pth"), tmp_path / "m.gguf", **SETTINGS)
    assert model.status is wanted, (model.against, counterparts(model))
    assert [one.name for one in causes(model, "bn2")] == ([] if wanted is Status.PASS else ["epsilon=0.001"])


def test_a_port_s_weights(net: Any, tmp_path: Path) -> None:
    """weights.h5 says less than a state_dict: neither epsilon nor axis. The model's epsilon is taken for its own."""
    keras = pytest.importorskip("keras", reason="keras is not installed")
    layers = keras.layers
    inputs = layers.Input((5, 5, 6))
    x = layers.BatchNormalization(name="bn1")(layers.Conv2D(6, 3, padding="same", name="conv1")(inputs))
    x = layers.BatchNormalization(name="bn2")(layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv2")(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2DTranspose(6, 2, name="up")(x))
    built = keras.Model(inputs, layers.Dense(6, name="head")(x))
    state = {name: values.numpy() for name, values in net.state_dict().items()}
    for name in ("conv1", "conv2", "up"):
        bias = [state[f"{name}.bias"]] if f"{name}.bias" in state else []
        built.get_layer(name).set_weights([state[f"{name}.weight"].transpose(2, 3, 1, 0), *bias])
    built.get_layer("head").set_weights([state["head.weight"].T, state["head.bias"]])
    for name in ("bn1", "bn2"):
        arrays = [state[f"{name}.{one}"] for one in ("weight", "bias", "running_mean", "running_var")]
        built.get_layer(name).set_weights(arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built.save_weights(tmp_path / "port.weights.h5")
    model = held(program(net, tmp_path / "m.pt2"), tmp_path / "port.weights.h5", accept=("numbers",))
    assert model.status is Status.PASS, (model.against, counterparts(model))
    back = held(tmp_path / "port.weights.h5", program(net, tmp_path / "m.pt2"), **SETTINGS)
    assert back.status is Status.PASS, (back.against, counterparts(back))


def test_another_gamma_is_named(net: Any, tmp_path: Path) -> None:
    wrong = folded(net)
    with torch.no_grad():
        wrong.conv2.weight[3] *= 1.001
    model = held(parameters(net, tmp_path / "m.pth"), program(wrong, tmp_path / "m.pt2"), **SETTINGS)
    assert model.status is Status.FAIL
    assert statuses(model) == {"bn1": LayerStatus.VERIFIED, "bn2": LayerStatus.MISMATCH}


def test_another_epsilon_is_named(net: Any, tmp_path: Path) -> None:
    wrong = copy.deepcopy(net)
    wrong.bn1.eps = 1e-3
    model = held(parameters(net, tmp_path / "m.pth"), program(folded(wrong), tmp_path / "m.pt2"), **SETTINGS)
    assert model.status is Status.FAIL
    assert "epsilon=0.001" in [one.name for one in causes(model, "bn1")]


def test_two_norms_that_were_exchanged_do_not_pass(net: Any, tmp_path: Path) -> None:
    """Every number is somewhere: what a batch norm was folded into is what its name says, or nothing is proved."""
    wrong = copy.deepcopy(net)
    wrong.bn1, wrong.bn2 = wrong.bn2, wrong.bn1
    model = held(parameters(net, tmp_path / "m.pth"), program(folded(wrong), tmp_path / "m.pt2"), **SETTINGS)
    assert model.status is not Status.PASS


def test_a_changed_kernel_without_a_norm_is_named(net: Any, tmp_path: Path) -> None:
    wrong = copy.deepcopy(net)
    with torch.no_grad():
        wrong.head.weight *= 1.01
    model = held(parameters(net, tmp_path / "m.pth"), program(wrong, tmp_path / "m.pt2"), **SETTINGS)
    assert model.status is Status.FAIL
    (finding,) = [one for one in model.findings if one.rule == "BN405"]
    assert "head" in finding.message
    assert "1.01" in finding.message


@pytest.mark.parametrize(
    ("norm", "beside"),
    [
        ("layer1.0.bn2", "layer1.0.conv2"),
        ("features.1", "features.0"),
        ("features.4", "features.3"),
        ("stem.bn", "stem.conv"),
    ],
)
def test_the_kernel_beside_a_batch_norm_is_the_one_that_its_name_says(norm: str, beside: str) -> None:
    names = ["features.0", "features.3", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv2", "stem.conv"]
    kernels = [NamedKernel(name, ((CONVOLUTION, Kernel(np.ones((1, 4, 4)), groups=0)),)) for name in names]
    four = np.ones(4, np.float32)
    network = by_name.network(kernels, [BatchNorm(norm, four, four, four, four, 1e-5)])
    assert next(node for node in network.nodes if node.layer == norm).inputs == (beside,)


def test_names_behind_data_parallel_are_those_of_the_layers(net: Any, tmp_path: Path) -> None:
    torch.save({f"module.{name}": values for name, values in net.state_dict().items()}, tmp_path / "m.pth")
    assert {one.name for one in formats.read_kernels(tmp_path / "m.pth")} == {"conv1", "conv2", "up", "head"}
