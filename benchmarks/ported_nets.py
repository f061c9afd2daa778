"""Nets in PyTorch, and ports of them to Keras as people write them by hand: right, and wrong in the usual ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE = 32
CLASSES = 5


def _torch_layers(  # noqa: C901 - the classes of three nets
    width: int,
) -> dict[str, Callable[[], Any]]:
    """Return the nets of PyTorch by name, unbuilt: torch is imported when the first is asked for."""
    import torch
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        """Two convolutions and a shortcut, with a convolution of its own where the size changes."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.down = None
            if stride > 1 or inputs != outputs:
                self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            return torch.relu(y + (x if self.down is None else self.down(x)))

    class ResNet(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        """Eighteen layers with weights, as narrow as asked for; it ends in a flattened map of two by two."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.pool = nn.MaxPool2d(3, 2, 1)
            sizes = [width, width, 2 * width, 4 * width, 4 * width]
            self.layers = nn.ModuleList(
                nn.Sequential(
                    Block(sizes[n], sizes[n + 1], 1 if n in {0, 3} else 2), Block(sizes[n + 1], sizes[n + 1], 1)
                )
                for n in range(4)
            )
            self.fc = nn.Linear(4 * width * 4, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.pool(torch.relu(self.bn1(self.conv1(x))))
            for layer in self.layers:
                x = layer(x)
            return self.fc(torch.flatten(x, 1))

    class Inverted(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        """Wider, depthwise, narrower; with a shortcut where input and output are of one shape."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            wide = 4 * inputs
            self.expand, self.bn1 = nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide)
            self.depth = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
            self.bn2 = nn.BatchNorm2d(wide)
            self.project, self.bn3 = nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            self.same = stride == 1 and inputs == outputs

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.relu6(self.bn1(self.expand(x)))
            y = nn.functional.relu6(self.bn2(self.depth(y)))
            y = self.bn3(self.project(y))
            return x + y if self.same else y

    class MobileNet(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        """Inverted bottlenecks behind a strided convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
            sizes = [(width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 3 * width, 2)]
            self.blocks = nn.ModuleList(Inverted(*one) for one in sizes)
            self.head, self.bn2 = nn.Conv2d(3 * width, 8 * width, 1, bias=False), nn.BatchNorm2d(8 * width)
            self.fc = nn.Linear(8 * width, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.relu6(self.bn1(self.conv1(x)))
            for block in self.blocks:
                x = block(x)
            return self.fc(nn.functional.relu6(self.bn2(self.head(x))).mean((2, 3)))

    class Double(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        """Two convolutions with biases, each with a batch norm and a relu."""

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
            self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(x)))

    class UNet(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        """Down twice, up twice, what was there before beside it."""

        def __init__(self) -> None:
            super().__init__()
            self.down1, self.down2 = Double(3, width), Double(width, 2 * width)
            self.middle = Double(2 * width, 4 * width)
            self.up2, self.joined2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), Double(4 * width, 2 * width)
            self.up1, self.joined1 = nn.ConvTranspose2d(2 * width, width, 2, 2), Double(2 * width, width)
            self.last = nn.Conv2d(width, CLASSES, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.down1(x)
            second = self.down2(nn.functional.max_pool2d(first, 2))
            x = self.middle(nn.functional.max_pool2d(second, 2))
            x = self.joined2(torch.cat([second, self.up2(x)], 1))
            x = self.joined1(torch.cat([first, self.up1(x)], 1))
            return torch.sigmoid(self.last(x))

    return {"ResNet18": ResNet, "MobileNetV2": MobileNet, "U-Net": UNet}


def original(name: str, seed: int, width: int = 8) -> Any:
    """Return a net of PyTorch with weights as training leaves them, in inference mode."""
    import torch

    torch.manual_seed(seed)
    net = _torch_layers(width)[name]()
    generator = np.random.default_rng(seed)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            count = module.num_features
            drawn = {
                "weight": generator.uniform(0.5, 1.5, count) * np.where(np.arange(count) % 5 == 2, -1, 1),
                "bias": generator.normal(0, 0.3, count),
                "running_mean": generator.normal(0, 0.3, count),
                "running_var": generator.uniform(0.2, 2, count),
            }
            with torch.no_grad():
                for attribute, values in drawn.items():
                    getattr(module, attribute).copy_(torch.from_numpy(values))
    return net.eval()


@dataclass(frozen=True)
class Fault:
    """What is wrong with a port, and where that shows."""

    where: str
    """The layer that is ported wrong, as PyTorch calls it."""
    seen: str = ""
    """The layer that has to be named, where that is another one: what comes behind something that has no weights."""


FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "ResNet18": {
        "gamma and beta exchanged": Fault("layers.1.0.bn2"),
        "mean and variance exchanged": Fault("layers.2.1.bn1"),
        "epsilon": Fault("layers.0.1.bn1"),
        "momentum": Fault("bn1"),
        "norm skipped": Fault("layers.2.0.bn1", "layers.2.0.conv2"),
        "kernel transposed": Fault("layers.1.1.conv1", "layers.1.1.bn1"),
        "two layers exchanged": Fault("layers.0.0.conv1", "layers.0.0.bn1"),
        "padding": Fault("layers.2.0.conv1"),
        "activation missing": Fault("layers.3.0.bn1", "layers.3.0.conv2"),
        "flattened in another order": Fault("fc"),
        "shortcut missing": Fault("layers.1.1", "layers.2.0.conv1|layers.2.0.down.0"),
        "average for largest": Fault("pool", "layers.0.0.conv1"),
    },
    "MobileNetV2": {
        "gamma and beta exchanged": Fault("blocks.1.bn3"),
        "mean and variance exchanged": Fault("blocks.2.bn2"),
        "epsilon": Fault("bn2"),
        "momentum": Fault("blocks.0.bn1"),
        "norm skipped": Fault("blocks.2.bn3", "blocks.3.expand"),
        "kernel transposed": Fault("blocks.1.depth", "blocks.1.bn2"),
        "two layers exchanged": Fault("blocks.0.bn1", "blocks.0.bn1"),
        "padding": Fault("blocks.3.depth"),
        "activation missing": Fault("blocks.1.bn2", "blocks.1.project"),
        "relu for relu6": Fault("blocks.2.bn1", "blocks.2.bn2|blocks.2.bn1"),
        "shortcut missing": Fault("blocks.2", "blocks.3.expand"),
    },
    "U-Net": {
        "gamma and beta exchanged": Fault("joined2.bn1"),
        "mean and variance exchanged": Fault("middle.bn2"),
        "epsilon": Fault("down1.bn2"),
        "momentum": Fault("down2.bn1"),
        "norm skipped": Fault("joined1.bn2", "last"),
        "kernel transposed": Fault("down2.conv2", "down2.bn2"),
        "transposed convolution's kernel transposed": Fault("up2"),
        "bias dropped": Fault("middle.conv1", "middle.bn1"),
        "activation missing": Fault("joined2.bn1", "joined2.conv2"),
        "joined in another order": Fault("joined1", "joined1.conv1"),
        "shortcut missing": Fault("joined2", "joined2.conv1"),
    },
}
"""For each net the faults that a port of it may have. `momentum` passes, and must be told all the same."""


class Port:
    """A port of a net to Keras, layer by layer, with one fault or none."""

    def __init__(self, net: Any, fault: str, where: str, style: str = "") -> None:
        import keras

        self.layers = keras.layers
        self.modules = dict(net.named_modules())
        self.state = {name: values.numpy() for name, values in net.state_dict().items()}
        self.fault = fault
        self.where = where
        self.style = style
        self.weights: dict[str, list[Any]] = {}

    def has(self, fault: str, where: str) -> bool:
        """Return whether the port has a fault at a layer."""
        return self.fault == fault and self.where == where

    def named(self, name: str) -> str:
        """Return what the port calls a layer."""
        return name.replace(".", "_")

    def stored(self, name: str) -> Any:
        """Return an array of the original, of the other of two layers if they are exchanged."""
        if self.fault == "two layers exchanged":
            first, second = self.where, _other(self.where)
            for one, other in ((first, second), (second, first)):
                if name.startswith(f"{one}."):
                    return self.state.get(other + name.removeprefix(one))
        return self.state.get(name)

    def conv(self, x: Any, name: str, activation: str | None = None) -> Any:
        """Add a convolution, padded as PyTorch pads it."""
        module = self.modules[name]
        kernel = self.stored(f"{name}.weight")
        groups = module.groups
        order = (3, 2, 1, 0) if self.has("kernel transposed", name) else (2, 3, 1, 0)
        padding = module.padding[0]
        word = "valid"
        if (padding and module.stride[0] == 1 and module.kernel_size[0] == 2 * padding + 1) or (
            padding and self.has("padding", name)
        ):
            word = "same"
        elif padding:
            x = self.layers.ZeroPadding2D(padding)(x)
        bias = self.stored(f"{name}.bias")
        if self.has("bias dropped", name):
            bias = np.zeros_like(bias)
        if groups > 1:
            made: Any = self.layers.DepthwiseConv2D(
                module.kernel_size, module.stride, word, use_bias=False, name=self.named(name)
            )
            values = [kernel.transpose((3, 2, 0, 1) if self.has("kernel transposed", name) else (2, 3, 0, 1))]
        else:
            made = self.layers.Conv2D(
                module.out_channels,
                module.kernel_size,
                module.stride,
                word,
                activation=activation,
                use_bias=bias is not None,
                name=self.named(name),
            )
            values = [kernel.transpose(order), *([] if bias is None else [bias])]
        y = made(x)
        made.set_weights(values)
        return y

    def norm(self, x: Any, name: str) -> Any:
        """Add a batch norm."""
        if self.has("norm skipped", name):
            return x
        module = self.modules[name]
        arrays = [self.stored(f"{name}.{one}") for one in ("weight", "bias", "running_mean", "running_var")]
        if self.has("gamma and beta exchanged", name):
            arrays = [arrays[1], arrays[0], *arrays[2:]]
        if self.has("mean and variance exchanged", name):
            arrays = [*arrays[:2], arrays[3], arrays[2]]
        made = self.layers.BatchNormalization(
            momentum=module.momentum if self.has("momentum", name) else 1 - module.momentum,
            epsilon=1e-3 if self.has("epsilon", name) else module.eps,
            name=self.named(name),
        )
        y = made(x)
        made.set_weights(arrays)
        return y

    def relu(self, x: Any, behind: str, most: float | None = None) -> Any:
        """Apply a relu behind a layer."""
        if self.has("activation missing", behind):
            return x
        return self.layers.ReLU(None if self.has("relu for relu6", behind) else most)(x)

    def up(self, x: Any, name: str) -> Any:
        """Add a transposed convolution that doubles height and width."""
        module = self.modules[name]
        made = self.layers.Conv2DTranspose(module.out_channels, 2, 2, name=self.named(name))
        y = made(x)
        wrong = self.has("transposed convolution's kernel transposed", name)
        kernel = self.stored(f"{name}.weight").transpose((3, 2, 1, 0) if wrong else (2, 3, 1, 0))
        made.set_weights([kernel, self.stored(f"{name}.bias")])
        return y

    def dense(self, x: Any, name: str, rows: Any = None) -> Any:
        """Add a dense layer, the rows of its kernel in another order if one is given."""
        module = self.modules[name]
        made = self.layers.Dense(module.out_features, name=self.named(name))
        y = made(x)
        kernel = self.stored(f"{name}.weight").T
        made.set_weights([kernel if rows is None else kernel[rows], self.stored(f"{name}.bias")])
        return y


def _other(name: str) -> str:
    """Return the layer of the same width with which one is exchanged."""
    return {"layers.0.0.conv1": "layers.0.0.conv2", "blocks.0.bn1": "blocks.0.bn2"}[name]


def _block(port: Port, x: Any, name: str) -> Any:
    y = port.relu(port.norm(port.conv(x, f"{name}.conv1"), f"{name}.bn1"), f"{name}.bn1")
    y = port.norm(port.conv(y, f"{name}.conv2"), f"{name}.bn2")
    if f"{name}.down.0" in port.modules:
        x = port.norm(port.conv(x, f"{name}.down.0"), f"{name}.down.1")
    return port.layers.ReLU()(y if port.has("shortcut missing", name) else port.layers.Add()([x, y]))


def _resnet(port: Port) -> Any:
    inputs = port.layers.Input((SIDE, SIDE, 3))
    x = port.relu(port.norm(port.conv(inputs, "conv1"), "bn1"), "bn1")
    if port.has("average for largest", "pool"):
        x = port.layers.AveragePooling2D(3, 2, "same")(x)
    else:
        # Behind a relu zeros are as small as what PyTorch pads with.
        x = port.layers.MaxPooling2D(3, 2)(port.layers.ZeroPadding2D(1)(x))
    for group in range(4):
        for place in range(2):
            x = _block(port, x, f"layers.{group}.{place}")
    if port.fault == "flattened in another order":
        return inputs, port.dense(port.layers.Flatten()(x), "fc")
    if port.style == "rows of the dense layer in the order of the port":
        height, width, channels = x.shape[1:]
        rows = np.arange(height * width * channels).reshape(channels, height, width).transpose(1, 2, 0).reshape(-1)
        return inputs, port.dense(port.layers.Flatten()(x), "fc", rows)
    return inputs, port.dense(port.layers.Flatten()(port.layers.Permute((3, 1, 2))(x)), "fc")


def _mobilenet(port: Port) -> Any:
    inputs = port.layers.Input((SIDE, SIDE, 3))
    x = port.relu(port.norm(port.conv(inputs, "conv1"), "bn1"), "bn1", 6.0)
    for place in range(4):
        name = f"blocks.{place}"
        y = port.relu(port.norm(port.conv(x, f"{name}.expand"), f"{name}.bn1"), f"{name}.bn1", 6.0)
        y = port.relu(port.norm(port.conv(y, f"{name}.depth"), f"{name}.bn2"), f"{name}.bn2", 6.0)
        y = port.norm(port.conv(y, f"{name}.project"), f"{name}.bn3")
        same = port.modules[name].same and not port.has("shortcut missing", name)
        x = port.layers.Add()([x, y]) if same else y
    x = port.relu(port.norm(port.conv(x, "head"), "bn2"), "bn2", 6.0)
    return inputs, port.dense(port.layers.GlobalAveragePooling2D()(x), "fc")


def _double(port: Port, x: Any, name: str) -> Any:
    x = port.relu(port.norm(port.conv(x, f"{name}.conv1"), f"{name}.bn1"), f"{name}.bn1")
    return port.relu(port.norm(port.conv(x, f"{name}.conv2"), f"{name}.bn2"), f"{name}.bn2")


def _unet(port: Port) -> Any:
    inputs = port.layers.Input((SIDE, SIDE, 3))
    first = _double(port, inputs, "down1")
    second = _double(port, port.layers.MaxPooling2D()(first), "down2")
    x = _double(port, port.layers.MaxPooling2D()(second), "middle")
    for beside, number in ((second, 2), (first, 1)):
        name, raised = f"joined{number}", port.up(x, f"up{number}")
        pair = [raised, beside] if port.has("joined in another order", name) else [beside, raised]
        if port.has("shortcut missing", name):
            pair = [raised, raised]
        x = _double(port, port.layers.Concatenate()(pair), name)
    return inputs, port.conv(x, "last", activation="sigmoid")


_PORTS: Mapping[str, Callable[[Port], Any]] = {"ResNet18": _resnet, "MobileNetV2": _mobilenet, "U-Net": _unet}
STYLES: Mapping[str, tuple[str, ...]] = {
    "ResNet18": ("", "rows of the dense layer in the order of the port"),
    "MobileNetV2": ("",),
    "U-Net": ("",),
}
"""Ways to write a right port of each."""


def ported(name: str, net: Any, fault: str = "", style: str = "") -> Any:
    """Return the Keras port of a net, right or with one of FAULTS."""
    import keras

    keras.backend.clear_session()
    where = FAULTS[name][fault].where if fault else ""
    inputs, outputs = _PORTS[name](Port(net, fault, where, style))
    return keras.Model(inputs, outputs)


def program(net: Any, path: Any, side: int = SIDE) -> Any:
    """Write a net as an exported program of pictures with sides of so many pixels, and return the path."""
    import torch

    batch = torch.export.Dim("batch")
    example = torch.zeros(2, 3, side, side)
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=({0: batch},)), path)
    return path
