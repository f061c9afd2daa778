"""Ports written by hand, from PyTorch to Keras: the second file is held against the first, whichever that is."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.exports import causes, counterparts, held, randomise, save, statuses

from bninspect.records import LayerStatus, ModelReport, Severity, Status

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bninspect[torch]'")
keras = pytest.importorskip("keras", reason="keras is not installed: pip install 'bninspect[tensorflow]'")

from helpers.torch_nets import with_norms_filled  # noqa: E402 - which needs torch

SIDE, WIDTH = 10, 6


class Net(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """A strided convolution, a depthwise one and a dense layer behind a flattened map of 5 by 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, WIDTH, 3, 2, 1)
        self.bn1 = torch.nn.BatchNorm2d(WIDTH)
        self.depth = torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(WIDTH)
        self.fc = torch.nn.Linear(WIDTH * 25, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv(x)))
        x = torch.relu(self.bn2(self.depth(x)))
        return self.fc(torch.flatten(x, 1))


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(3)
    built = Net()
    return with_norms_filled(built)


@pytest.fixture(scope="module")
def program(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.pt2"
    batch = torch.export.Dim("batch")
    exported = torch.export.export(net, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, path)
    return path


@pytest.fixture(scope="module")
def script(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.zeros(2, 3, SIDE, SIDE)).save(str(path))
    return path


def ported(net: Any, **changes: Any) -> Any:
    """Return a Keras port, right but for `changes`."""
    layers = keras.layers
    state = {name: values.numpy() for name, values in net.state_dict().items()}
    x = inputs = layers.Input((SIDE, SIDE, 3))
    if changes.get("padding") == "same":
        x = layers.Conv2D(WIDTH, 3, 2, "same", name="conv")(x)
    else:
        x = layers.Conv2D(WIDTH, 3, 2, name="conv")(layers.ZeroPadding2D(1)(x))
    momentum = changes.get("momentum", 0.9)
    x = layers.BatchNormalization(epsilon=changes.get("epsilon", 1e-5), momentum=momentum, name="bn1")(x)
    x = x if changes.get("without_activation") else layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depth")(x)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="bn2")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="extra")(x) if changes.get("extra") else x)
    flatten = changes.get("flatten", "turned")
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x) if flatten == "turned" else x)
    built = keras.Model(inputs, layers.Dense(4, name="fc")(x))
    kernel = state["fc.weight"].T
    if flatten == "rows":
        kernel = kernel.reshape(WIDTH, 25, 4).transpose(1, 0, 2).reshape(-1, 4)
    order = changes.get("kernel", lambda stored: stored.transpose(2, 3, 1, 0))
    built.get_layer("conv").set_weights([order(state["conv.weight"]), state["conv.bias"]])
    built.get_layer("depth").set_weights([state["depth.weight"].transpose(2, 3, 0, 1)])
    built.get_layer("fc").set_weights([kernel, state["fc.bias"]])
    for name in ("bn1", "bn2"):
        arrays = [state[f"{name}.{one}"] for one in ("weight", "bias", "running_mean", "running_var")]
        order = changes.get("order", (0, 1, 2, 3)) if name == "bn2" else (0, 1, 2, 3)
        built.get_layer(name).set_weights([arrays[place] for place in order])
    return built


def exported(built: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built.export(path, verbose=False)
    return path


@pytest.mark.parametrize("flatten", ["turned", "rows"])
@pytest.mark.parametrize("kind", ["m.keras", "m.h5", "saved"])
def test_a_right_port_passes_in_both_directions(
    net: Any, program: Path, kind: str, flatten: str, tmp_path: Path
) -> None:
    built = ported(net, flatten=flatten)
    port = exported(built, tmp_path / kind) if kind == "saved" else save(built, tmp_path / kind)
    for model in (held(program, port), held(port, program)):
        assert model.status is Status.PASS, (model.against, model.findings, counterparts(model))
        assert set(statuses(model).values()) == {LayerStatus.VERIFIED}


def test_torchscript_takes_the_size_of_its_input_from_the_model(net: Any, script: Path, tmp_path: Path) -> None:
    """The file says neither shapes nor types, and --input-shape would have to repeat what the other file says."""
    port = save(ported(net), tmp_path / "port.keras")
    assert held(port, script).status is Status.PASS
    assert held(script, port).status is Status.PASS


@pytest.mark.parametrize(
    ("changes", "layer", "cause"),
    [
        ({"order": (1, 0, 2, 3)}, "bn2", "roles=beta,gamma,mean,variance"),
        ({"order": (0, 1, 3, 2)}, "bn2", "arrays-exchanged"),
        ({"epsilon": 1e-3}, "bn1", "epsilon=0.001"),
    ],
)
def test_what_is_wrong_with_a_norm_is_named(
    net: Any, program: Path, changes: dict[str, Any], layer: str, cause: str, tmp_path: Path
) -> None:
    model = held(program, save(ported(net, **changes), tmp_path / "port.keras"))
    assert model.status is Status.FAIL
    (name,) = [one.name for one in model.layers if statuses(model)[one.name] is LayerStatus.MISMATCH][:1]
    assert (name, [one.name for one in causes(model, name)]) == (layer, [cause])
    assert layer in counterparts(model)[name].place


def _messages(model: ModelReport) -> str:
    return "; ".join(one.message for one in model.findings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"padding": "same"}, "in convolution 'conv': its numbers are right, its output is not"),
        ({"without_activation": True}, "in depthwise convolution 'depth': .* first seen at batch norm 'bn1'"),
        ({"flatten": "plain"}, "in dense 'fc': .* first seen at reshape 'flatten'"),
        ({"kernel": np.transpose}, "in convolution 'conv': its kernel is transposed: height and width are exchanged"),
        (
            {"kernel": lambda stored: stored.reshape(3, 3, 3, WIDTH)},
            "its kernel was reshaped where its axes have to be",
        ),
        ({"extra": True}, "in dense 'fc': .*: the export has batch norm 'extra' there, and the model has none"),
    ],
)
def test_what_is_wrong_between_layers_is_named_in_the_port(
    net: Any, program: Path, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    model = held(program, save(ported(net, **changes), tmp_path / "port.keras"))
    assert model.status is Status.FAIL
    assert re.search(said, _messages(model)), _messages(model)


def test_what_is_between_the_kernels_of_a_separable_convolution_is_seen(tmp_path: Path) -> None:
    """Its layer shows nobody what its first kernel returns."""
    x = inputs = keras.layers.Input((8, 8, 3))
    x = keras.layers.SeparableConv2D(4, 3, 2, "same", activation="relu", depth_multiplier=2)(x)
    x = keras.layers.BatchNormalization()(keras.layers.Reshape((16, 4))(x))
    built = randomise(keras.Model(inputs, keras.layers.SeparableConv1D(3, 3, dilation_rate=2)(x)))
    assert held(save(built, tmp_path / "m.keras"), save(built, tmp_path / "port.keras")).status is Status.PASS


def test_a_misread_momentum_passes_and_is_told(net: Any, program: Path, tmp_path: Path) -> None:
    """Inference does not use it; who trains the port on gets other statistics."""
    model = held(program, save(ported(net, momentum=0.1), tmp_path / "port.keras"))
    assert model.status is Status.PASS
    (finding,) = [one for layer in model.layers for one in layer.findings if one.rule == "BN406"]
    assert finding.severity is Severity.WARNING
    assert "momentum is 0.1 in batch norm 'bn1' and 0.9 in the model" in finding.message


def test_a_tf_keras_port_is_held_too(net: Any, program: Path, tmp_path: Path) -> None:
    """Keras 2's layers are followed as those of Keras 3 are."""
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    layers = tf_keras.layers
    inputs = layers.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(WIDTH, 3, 2, name="conv")(layers.ZeroPadding2D(1)(inputs))
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="bn1")(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depth")(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="bn2")(x))
    built = tf_keras.Model(inputs, layers.Dense(4, name="fc")(layers.Flatten()(layers.Permute((3, 1, 2))(x))))
    for layer in ported(net).layers:
        if layer.get_weights():
            built.get_layer(layer.name).set_weights(layer.get_weights())
    assert held(program, save(built, tmp_path / "port.h5")).status is Status.PASS


@pytest.mark.parametrize("name", ["ResNet18", "MobileNetV2", "U-Net"])
def test_right_ports_of_known_architectures_pass(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the nets that benchmarks/ports.py breaks in more than ten ways each."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import ported_nets as nets

    net = nets.original(name, 0, width=4)
    source = nets.program(net, tmp_path / "net.pt2")
    for style in nets.STYLES[name]:
        model = held(source, save(nets.ported(name, net, style=style), tmp_path / "port.keras"))
        assert model.status is Status.PASS, (style, model.against, model.findings)
