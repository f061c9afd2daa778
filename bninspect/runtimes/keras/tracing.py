"""Which layer feeds which in a Keras model, seen as it runs: every call of every layer, also in nested models.

The tensors of an eager forward pass are followed by identity: what one layer returns, the next one is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.records import Array, Observation
from bninspect.records import graph as network
from bninspect.records.graph import Kernel, Network, Node, Value

_SAME = {
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Identity"), "identity"),
    **dict.fromkeys(("GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"), "identity"),
    **dict.fromkeys(("InputLayer", "Masking"), "identity"),
    **dict.fromkeys(("Reshape", "Flatten"), "reshape"),
    "Permute": "transpose",
}
_NO_ACTIVATION = ("", "linear")


@dataclass(frozen=True, eq=False)
class TracedCall:
    """What a batch norm returned, and how large its input was."""

    layer: str
    y: Array
    axis: tuple[int, ...]
    largest: Array
    """Largest |x| of each channel."""
    dtype: str = "float32"
    """Type to which the framework rounded `y`."""


def called(observation: Observation) -> TracedCall:
    """Return what is kept of a call."""
    x, axis = observation.x, observation.axis
    others = tuple(one for one in range(x.ndim) if one not in axis)
    largest = np.abs(x).max(axis=others, initial=0).reshape(-1)
    return TracedCall(observation.layer, observation.y, axis, largest, observation.output)


class Trace:
    """The calls of one forward pass, with what came out of the batch norms and of the model."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._labels: dict[int, str] = {}
        # While a tensor is held here its identity cannot become another tensor's.
        self._held: list[Any] = []
        self._depth = 0
        self._called = 0
        self._latest: list[Observation] = []
        self.calls: list[TracedCall] = []
        """What each batch norm returned, call by call."""
        self.inputs: tuple[Array, ...] = ()
        self.outputs: tuple[Array, ...] = ()
        """What the model took and returned."""

    def begin(self) -> None:
        """Forget everything: another attempt starts."""
        self.__init__()  # type: ignore[misc]

    def see(self, observation: Observation) -> None:
        """Take note of an observation while its layer is still being called."""
        self._latest.append(observation)
        if observation.observed == "in-model":
            self.calls.append(called(observation))

    def network(self) -> Network:
        """Return what was called; its values are numbered."""
        return Network(_values(self.inputs), _values(self.outputs), tuple(self._nodes))

    def around(self, layer: Any, arguments: Any, compute: Callable[[], Any]) -> Any:
        """Call a layer, and remember what it took and returned."""
        taken = _tensors(arguments)
        before = len(self._nodes)
        self._depth += 1
        self._latest = []
        try:
            returned = compute()
        finally:
            self._depth -= 1
        given = _tensors(returned)
        if self._depth == 0 and not self.outputs and len(self._nodes) > before:
            self.inputs = tuple(np.asarray(one) for one in taken)
            self.outputs = tuple(_array(one) for one in given)
        if len(self._nodes) == before and taken and given:
            self._add(layer, taken, given)
        return returned

    def _add(self, layer: Any, taken: list[Any], given: list[Any]) -> None:
        observations, self._latest = self._latest, []
        seen = [one.layer for one in observations if one.observed == "in-model"]
        if observations and not seen:
            return
        inputs = tuple(self._label(one) for one in taken)
        outputs = tuple(self._label(one, new=True) for one in given if not any(one is each for each in taken))
        if not outputs:
            return
        # TimeDistributed calls its layer for each step, and shows only itself: one call is several of a batch norm.
        for norm in seen or [""]:
            self._nodes += _nodes(layer, inputs, outputs, norm)

    def _label(self, tensor: Any, *, new: bool = False) -> str:
        if new or id(tensor) not in self._labels:
            self._held.append(tensor)
            self._labels[id(tensor)] = f"value {len(self._held)}"
        return self._labels[id(tensor)]


@contextmanager
def traced(*kerases: Any) -> Iterator[Trace]:
    """Follow every call of a layer of the given modules, Keras 3 or tf-keras or both, meanwhile."""
    trace = Trace()
    owners = [keras.layers.Layer for keras in kerases]
    originals = [owner.__call__ for owner in owners]
    for owner, original in zip(owners, originals, strict=True):
        owner.__call__ = _followed(trace, original)
    try:
        yield trace
    finally:
        for owner, original in zip(owners, originals, strict=True):
            owner.__call__ = original


def _followed(trace: Trace, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return trace.around(layer, (args, kwargs), lambda: original(layer, *args, **kwargs))

    return call


def _tensors(structure: Any) -> list[Any]:
    import tensorflow as tf

    return [one for one in tf.nest.flatten(structure) if isinstance(one, tf.Tensor) and hasattr(one, "numpy")]


def _array(tensor: Any) -> Array:
    values = np.asarray(tensor)
    return values.astype(np.float32) if values.dtype.name == "bfloat16" else values


def _values(arrays: tuple[Array, ...]) -> tuple[Value, ...]:
    return tuple(Value(str(place), array.shape, array.dtype.name) for place, array in enumerate(arrays))


def _nodes(layer: Any, inputs: tuple[str, ...], outputs: tuple[str, ...], norm: str) -> Iterator[Node]:
    """Yield the operations of one call: one, or two for a separable convolution."""
    name, kind = str(layer.name), type(layer).__name__
    if norm:
        yield Node(name, network.BATCH_NORM, inputs[:1], outputs, layer=norm)
        return
    activation = _activation(layer)
    padded = getattr(layer, "padding", "valid") == "same"
    if kind.startswith("Separable"):
        between = (f"{outputs[0]} between",)
        depthwise, pointwise = _numpy(layer.depthwise_kernel), _numpy(layer.pointwise_kernel)
        first = Kernel(_depthwise(depthwise), None, depthwise.shape[-2])
        yield Node(f"{name} depthwise", network.DEPTHWISE, inputs[:1], between, first, padded=padded)
        second = Kernel(pointwise.reshape(1, *pointwise.shape[-2:]), _bias(layer))
        yield Node(name, network.CONVOLUTION, between, outputs, second, activation=activation)
        return
    kernel, operation = _kernel(layer, kind)
    if kernel is not None:
        yield Node(name, operation, inputs[:1], outputs, kernel, activation=activation, padded=padded)
        return
    operation = _SAME.get(kind, kind.lower())
    if kind == "Activation":
        operation = activation or "identity"
    yield Node(name, operation, inputs, outputs, padded=kind.startswith("ZeroPadding"))


def _kernel(layer: Any, kind: str) -> tuple[Kernel | None, str]:
    """Return the constants of a linear layer in our order, and what kind it is; (None, "") for every other layer."""
    # tf-keras has a name of its own for the weights of a depthwise convolution.
    stored = _numpy(
        _maybe(layer, "depthwise_kernel") if hasattr(layer, "depthwise_kernel") else _maybe(layer, "kernel")
    )
    if stored is None:
        return None, ""
    if kind == "Dense" and stored.ndim == 2:
        return Kernel(network.dense(stored), _bias(layer)), network.DENSE
    if kind.startswith("Depthwise"):
        return Kernel(_depthwise(stored), _bias(layer), stored.shape[-2]), network.DEPTHWISE
    if kind.startswith("Conv") and kind.endswith("Transpose"):  # (places..., outputs, inputs)
        weights = np.swapaxes(stored, -1, -2).reshape(-1, stored.shape[-1], stored.shape[-2])
        return Kernel(weights, _bias(layer)), network.TRANSPOSED
    if kind in {"Conv1D", "Conv2D", "Conv3D"}:  # (places..., inputs per group, outputs)
        weights = stored.reshape(-1, *stored.shape[-2:])
        return Kernel(weights, _bias(layer), int(getattr(layer, "groups", 1))), network.CONVOLUTION
    return None, ""


def _depthwise(stored: Array) -> Array:
    """Return the weights of a depthwise convolution, stored as (places..., inputs, multiplier)."""
    return stored.reshape(-1, 1, stored.shape[-2] * stored.shape[-1])


def _bias(layer: Any) -> Any:
    return _numpy(_maybe(layer, "bias"))


def _maybe(layer: Any, name: str) -> Any:
    return getattr(layer, name, None)


def _numpy(variable: Any) -> Any:
    return None if variable is None else _array(variable.numpy())


def _activation(layer: Any) -> str:
    function = getattr(layer, "activation", None)
    name = str(getattr(function, "__name__", "")) if function is not None else ""
    return "" if name in _NO_ACTIVATION else name
