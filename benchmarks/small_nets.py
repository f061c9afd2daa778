"""Seven small nets as lists of steps, trained in a second, that Keras and torch both build with the same weights.

A step that is left out, exchanged or given another attribute is another net with the same weights: that is how
tampers.py breaks the structure of an export. Weights are as torch stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Weights = Mapping[str, tuple[Array, ...]]
SIDE, CHANNELS, FEATURES, CLASSES = 13, 3, 24, 5
EPSILON = 1e-3


@dataclass(frozen=True)
class Step:
    """One operation: of what comes before it, unless `of` names others."""

    op: str
    name: str = ""
    of: tuple[str, ...] = ()
    width: int = 0
    size: int = 3
    stride: int = 1
    pad: int = 1
    dilation: int = 1
    epsilon: float = EPSILON
    bias: bool = True
    axis: int = -1
    """Channels last; torch gets 1 for -1 of images."""


Steps = tuple[Step, ...]
LINEAR = ("conv", "depthwise", "transposed", "dense")


def _block(name: str, width: int, act: str = "relu", **rest: Any) -> Steps:
    return (
        Step("conv", f"{name}", width=width, bias=False, **rest),
        Step("norm", f"{name}_bn"),
        Step(act, f"{name}_act"),
    )


def _conv() -> Steps:
    return (
        Step("conv", "first", width=8, size=3),
        Step("norm", "first_bn"),
        Step("relu6", "first_act"),
        Step("max pool", "pool", size=2, stride=2, pad=0),
        *_block("second", 12, dilation=2, pad=2),
        Step("average pool", "pool2", size=2, stride=2, pad=0),
        Step("flatten", "flat"),
        *_head(),
    )


def _head(*, hidden: bool = True) -> Steps:
    inner = (Step("dense", "hidden", width=10), Step("relu", "hidden_act")) if hidden else ()
    return (*inner, Step("dense", "head", width=CLASSES), Step("softmax", "softmax"))


def _depthwise() -> Steps:
    return (
        *_block("first", 8, "relu6", stride=2),
        Step("depthwise", "deep", bias=False),
        Step("norm", "deep_bn"),
        Step("relu6", "deep_act"),
        Step("conv", "point", width=12, size=1, pad=0, bias=False),
        Step("norm", "point_bn"),
        Step("relu6", "point_act"),
        Step("global average", "gap"),
        *_head(hidden=False),
    )


def _residual() -> Steps:
    return (
        *_block("first", 8),
        *_block("a", 8),
        Step("conv", "b", width=8, bias=False),
        Step("norm", "b_bn"),
        Step("add", "sum", of=("b_bn", "first_act")),
        Step("relu", "sum_act"),
        *_block("c", 12, stride=2),
        Step("conv", "d", width=12),
        Step("norm", "d_bn"),
        Step("conv", "short", of=("sum_act",), width=12, size=1, stride=2, pad=0),
        Step("norm", "short_bn"),
        Step("add", "sum2", of=("d_bn", "short_bn")),
        Step("relu", "sum2_act"),
        Step("global average", "gap"),
        *_head(hidden=False),
    )


def _unet() -> Steps:
    return (
        *_block("first", 6),
        Step("max pool", "pool", size=3, stride=2, pad=0),
        *_block("deep", 10),
        Step("transposed", "up", width=6, size=3, stride=2, pad=0),
        Step("norm", "up_bn"),
        Step("relu", "up_act"),
        Step("concat", "both", of=("up_act", "first_act")),
        *_block("last", 6),
        Step("conv", "head", width=1, size=1, pad=0),
        Step("sigmoid", "sigmoid"),
    )


def _dense() -> Steps:
    return (
        Step("dense", "first", width=16),
        Step("norm", "first_bn"),
        Step("relu", "first_act"),
        Step("dense", "second", width=12, bias=False),
        Step("norm", "second_bn"),
        Step("tanh", "second_act"),
        *_head(hidden=False),
    )


def _wide() -> Steps:
    """Return a net whose dense layers have 1,024 weights and more: with fewer, TFLite's dynamic range leaves them."""
    return (
        Step("dense", "first", width=64),
        Step("norm", "first_bn"),
        Step("relu", "first_act"),
        Step("dense", "second", width=256, bias=False),
        Step("norm", "second_bn"),
        Step("relu", "second_act"),
        *_head(hidden=False),
    )


def _preactivation() -> Steps:
    return (
        Step("conv", "first", width=8),
        Step("norm", "a_bn"),
        Step("relu", "a_act"),
        Step("conv", "a", width=8),
        Step("add", "sum", of=("a", "first")),
        Step("norm", "b_bn"),
        Step("relu", "b_act"),
        Step("conv", "b", width=8),
        Step("add", "sum2", of=("b", "sum")),
        Step("norm", "c_bn"),
        Step("relu", "c_act"),
        Step("global average", "gap"),
        *_head(hidden=False),
    )


NETS: Mapping[str, Steps] = {
    "conv": _conv(),
    "depthwise": _depthwise(),
    "residual": _residual(),
    "unet": _unet(),
    "dense": _dense(),
    "preactivation": _preactivation(),
    "wide": _wide(),
}


@dataclass(frozen=True, eq=False)
class SmallNet:
    """A net and its weights; `shape` is that of one sample, channels last."""

    steps: Steps
    weights: Weights = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample, channels last."""
        return (FEATURES,) if self.steps[0].op == "dense" else (SIDE, SIDE, CHANNELS)

    def step(self, name: str) -> Step:
        """Return the step of a name."""
        return next(one for one in self.steps if one.name == name)


def inputs(net: SmallNet, count: int, seed: int) -> tuple[Array, Array]:
    """Return samples, channels last, and their classes: one of CLASSES patterns and as much noise."""
    generator = np.random.default_rng(12345)
    patterns = generator.normal(size=(CLASSES, *net.shape))
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, CLASSES, count)
    return (patterns[classes] + generator.normal(size=(count, *net.shape))).astype(np.float32), classes


def _module(torch: Any, step: Step, channels: int) -> Any:
    """Return the module of a step that has weights; None for others."""
    if step.op == "conv":
        return torch.nn.Conv2d(channels, step.width, step.size, step.stride, step.pad, step.dilation, bias=step.bias)
    if step.op == "depthwise":
        return torch.nn.Conv2d(channels, channels, step.size, step.stride, step.pad, groups=channels, bias=step.bias)
    if step.op == "transposed":
        return torch.nn.ConvTranspose2d(channels, step.width, step.size, step.stride, step.pad)
    return torch.nn.Linear(channels, step.width, bias=step.bias) if step.op == "dense" else None


def _side(step: Step, side: int) -> int:
    """Return how long the sides of a map are behind a step."""
    if step.op in {"conv", "depthwise", "max pool", "average pool"}:
        return (side + 2 * step.pad - (step.size - 1) * step.dilation - 1) // step.stride + 1
    return (side - 1) * step.stride + step.size - 2 * step.pad if step.op == "transposed" else side


def in_torch(net: SmallNet) -> Any:
    """Return a net as a module of torch, with its weights if it has any."""
    import torch

    taken: dict[str, int] = {}
    sides: dict[str, int] = {}
    modules = torch.nn.ModuleDict()
    last, side = (FEATURES, 1) if len(net.shape) == 1 else (CHANNELS, SIDE)
    for step in net.steps:
        last, side = (taken[step.of[0]], sides[step.of[0]]) if step.of else (last, side)
        module = _module(torch, step, last)
        if step.op == "norm":
            kind = torch.nn.BatchNorm1d if len(net.shape) == 1 else torch.nn.BatchNorm2d
            module = kind(last, eps=step.epsilon)
        if module is not None:
            modules[step.name] = module
        if step.op == "flatten":
            last = last * side * side
        last = sum(taken[one] for one in step.of) if step.op == "concat" else step.width or last
        side = _side(step, side)
        taken[step.name], sides[step.name] = last, side
    with torch.no_grad():
        for name, arrays in net.weights.items():
            own = modules[name]
            tensors = (
                (own.weight, own.bias, own.running_mean, own.running_var)
                if len(arrays) == 4
                else (own.weight, own.bias)
            )
            for tensor, array in zip(tensors, arrays, strict=False):
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))

    class Net(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.modules_ = modules

        def forward(self, x: Any) -> Any:
            values: dict[str, Any] = {}
            for step in net.steps:
                given = [values[one] for one in step.of] or [x]
                x = values[step.name] = (
                    self.modules_[step.name](given[0]) if step.name in self.modules_ else _in_torch(torch, step, given)
                )
            return x

    return Net().eval()


def _in_torch(torch: Any, step: Step, given: Sequence[Any]) -> Any:
    x, more = given[0], given[-1]
    f = torch.nn.functional
    axis = 1 if step.axis == -1 and x.ndim > 2 else 2 if step.axis == 1 and x.ndim > 2 else step.axis
    return {
        "relu": lambda: torch.relu(x),
        "relu6": lambda: f.hardtanh(x, 0.0, 6.0),
        "leaky": lambda: f.leaky_relu(x, 0.1),
        "tanh": lambda: torch.tanh(x),
        "sigmoid": lambda: torch.sigmoid(x),
        "hard sigmoid": lambda: f.hardsigmoid(x),
        "swish": lambda: f.silu(x),
        "softmax": lambda: torch.softmax(x, axis),
        "max pool": lambda: f.max_pool2d(x, step.size, step.stride, step.pad),
        "average pool": lambda: f.avg_pool2d(x, step.size, step.stride, step.pad),
        "global average": lambda: x.mean((2, 3)),
        "global max": lambda: x.amax((2, 3)),
        "flatten": lambda: x.flatten(1),
        "add": lambda: x + more,
        "subtract": lambda: x - more,
        "multiply": lambda: x * more,
        "concat": lambda: torch.cat(list(given), 1),
        "scale": lambda: x * step.epsilon,
        "flip": lambda: torch.flip(x, (1 if step.axis == -1 else 3,)),
        "turn": lambda: x.transpose(2, 3),
        "pass": lambda: x,
    }[step.op]()


def in_keras(net: SmallNet) -> Any:
    """Return a net as a functional model of Keras, channels last, with its weights."""
    import keras

    layers = keras.layers
    values: dict[str, Any] = {}
    x = start = layers.Input(net.shape)
    shape: tuple[int, ...] = ()
    for step in net.steps:
        given = [values[one] for one in step.of] or [x]
        shape = tuple(given[0].shape[1:]) if step.op == "flatten" else shape
        x = values[step.name] = _in_keras(layers, step, given)
    model = keras.Model(start, x)
    for name, arrays in net.weights.items():
        layer = model.get_layer(name)
        kernel, rest = arrays[0], list(arrays[1:])
        if isinstance(layer, layers.DepthwiseConv2D):
            kernel = kernel.transpose(2, 3, 0, 1)
        elif kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 1, 0)
        elif kernel.ndim == 2:
            # Flatten runs through the channels last.
            after = next((one for one, two in zip(net.steps, net.steps[1:], strict=False) if two.name == name), None)
            if after is not None and after.op == "flatten":
                height, width, channels = shape
                kernel = kernel.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(kernel), -1)
            kernel = kernel.T
        layer.set_weights([kernel, *rest][: len(layer.get_weights())])
    return model


def _in_keras(layers: Any, step: Step, given: Sequence[Any]) -> Any:
    x = given[0]
    kept = {"name": step.name}
    if step.op in {"conv", "depthwise", "max pool", "average pool"} and step.pad:
        # As torch pads: as much in front as behind. `same` is that for a stride of one, and for odd sides.
        whole = step.pad == (step.size - 1) * step.dilation // 2
        padding = "same" if whole and (step.stride == 1 or x.shape[1] % 2) else "valid"
        x = layers.ZeroPadding2D(step.pad)(x) if padding == "valid" else x
    else:
        padding = "valid"
    size = {"strides": step.stride, "padding": padding, **kept}
    window = {**size, "dilation_rate": step.dilation, "use_bias": step.bias}
    along = 1 if step.axis == 1 and len(x.shape) > 2 else -1
    import keras

    ops = keras.ops
    return {
        "conv": lambda: layers.Conv2D(step.width, step.size, **window)(x),
        "depthwise": lambda: layers.DepthwiseConv2D(step.size, **window)(x),
        "transposed": lambda: layers.Conv2DTranspose(step.width, step.size, **size)(x),
        "dense": lambda: layers.Dense(step.width, use_bias=step.bias, **kept)(x),
        "norm": lambda: layers.BatchNormalization(epsilon=step.epsilon, **kept)(x),
        "relu": lambda: layers.ReLU(**kept)(x),
        "relu6": lambda: layers.ReLU(6.0, **kept)(x),
        "leaky": lambda: layers.LeakyReLU(0.1, **kept)(x),
        "tanh": lambda: layers.Activation("tanh", **kept)(x),
        "sigmoid": lambda: layers.Activation("sigmoid", **kept)(x),
        "hard sigmoid": lambda: layers.Activation("hard_sigmoid", **kept)(x),
        "swish": lambda: layers.Activation("swish", **kept)(x),
        "softmax": lambda: layers.Softmax(along, **kept)(x),
        "max pool": lambda: layers.MaxPooling2D(step.size, **size)(x),
        "average pool": lambda: layers.AveragePooling2D(step.size, **size)(x),
        "global average": lambda: layers.GlobalAveragePooling2D(**kept)(x),
        "global max": lambda: layers.GlobalMaxPooling2D(**kept)(x),
        "flatten": lambda: layers.Flatten(**kept)(x),
        "add": lambda: layers.Add(**kept)(list(given)),
        "subtract": lambda: layers.Subtract(**kept)(list(given)),
        "multiply": lambda: layers.Multiply(**kept)(list(given)),
        "concat": lambda: layers.Concatenate(**kept)(list(given)),
        "scale": lambda: layers.Rescaling(step.epsilon, **kept)(x),
        "flip": lambda: ops.flip(x, -1 if step.axis == -1 else 2),
        "turn": lambda: layers.Permute((2, 1, 3), **kept)(x),
        "pass": lambda: x,
    }[step.op]()


def trained(name: str, seed: int, batches: int = 60) -> SmallNet:
    """Return a net trained on patterns in noise (the U-Net on where the first channel is large), in torch."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = SmallNet(NETS[name])
    module = in_torch(net).train()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for batch in range(batches):
        x, classes = inputs(net, 32, 1000 * seed + batch)
        given = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
        optimizer.zero_grad()
        made = module(given)
        if name == "unet":
            wanted = (torch.nn.functional.avg_pool2d(given[:, :1], 3, 1, 1) > 0.3).float()
            loss = torch.nn.functional.binary_cross_entropy(made, wanted)
        else:
            loss = torch.nn.functional.nll_loss(torch.log(made + 1e-7), torch.from_numpy(classes))
        loss.backward()
        optimizer.step()
    weights: dict[str, tuple[Array, ...]] = {}
    for key, own in module.modules_.items():
        tensors = [own.weight, own.bias]
        tensors += [own.running_mean, own.running_var] if hasattr(own, "running_mean") else []
        weights[key] = tuple(one.detach().numpy().copy() for one in tensors if one is not None)
    return replace(net, weights=weights)
