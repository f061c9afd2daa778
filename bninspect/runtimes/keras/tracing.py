"""Which layer feeds which in a Keras model, seen as it runs: every call of every layer, also in nested models.

The tensors of an eager forward pass are followed by identity: what one layer returns, the next one is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bninspect.formats.channel_chains import RELUS
from bninspect.records import Array, Observation
from bninspect.records import graph as network
from bninspect.records.graph import ActivationLimits, Geometry, Kernel, Network, Node, Value

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
    """The calls of one forward pass, with what came out of the batch norms and of the model; it can be run again."""

    def __init__(self) -> None:
        self._start()
        self._again: Callable[[Sequence[Array] | None], Any] | None = None
        self.calls: list[TracedCall] = []
        """What each batch norm returned, call by call."""
        self.inputs: tuple[Array, ...] = ()
        self.outputs: tuple[Array, ...] = ()
        """What the model took and returned."""

    def _start(self) -> None:
        self._nodes: list[Node] = []
        self._labels: dict[int, str] = {}
        # While a tensor is held here its identity cannot become another tensor's.
        self._held: list[Any] = []
        self._depth = 0
        self._count = 0
        self._latest: list[Observation] = []
        self._forced: Mapping[str, Array] = {}
        self._wanted: frozenset[str] = frozenset()
        self._computed: dict[str, Array] = {}

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
        given = tuple(Value(f"output {place}", one.shape, one.dtype.name) for place, one in enumerate(self.outputs))
        return Network(_values(self.inputs), given, tuple(self._nodes))

    def replay(
        self, data: Sequence[Array] | None, forced: Mapping[str, Array], wanted: Iterable[str]
    ) -> Mapping[str, Array]:
        """Run the model again, values that are forced replaced where they are computed, so that all behind takes these.

        Args:
            data: input in the order of the model's; what it got the first time if None.
            forced: by label; of the shape of what they replace.
            wanted: labels, among them `output 0` and so on.

        Returns:
            What the model computed of the wanted values, before it was replaced.
        """
        assert self._again is not None  # noqa: S101 - a model that was never run has no labels
        self._start()
        self._forced, self._wanted, self._depth = forced, frozenset(wanted), 1
        outputs = _tensors(self._again(data))
        found = self._computed
        found |= {f"output {place}": _array(one) for place, one in enumerate(outputs)}
        self._start()
        return {name: values for name, values in found.items() if name in wanted}

    def around(self, layer: Any, arguments: Any, compute: Callable[[Any], Any]) -> Any:
        """Call a layer, and remember what it took and returned."""
        taken = _tensors(arguments)
        before = len(self._nodes)
        first = self._depth == 0
        if first:
            self._enter(taken)
        self._depth += 1
        self._latest = []
        try:
            with self._split(layer, taken):
                returned = compute(arguments)
        finally:
            self._depth -= 1
        if len(self._nodes) == before and taken and _tensors(returned):
            returned = self._add(layer, taken, returned)
        if first and not self.outputs and len(self._nodes) > before:
            self.inputs = tuple(_array(one) for one in taken)
            self.outputs = tuple(_array(one) for one in _tensors(returned))
            self._again = lambda data: compute(self._fed(arguments, data))
        return returned

    def _enter(self, taken: Sequence[Any]) -> None:
        for place, one in enumerate(taken):
            self._name(one, f"input {place}")

    def _fed(self, arguments: Any, data: Sequence[Array] | None) -> Any:
        """Return the arguments of the model with other arrays in the place of its inputs."""
        import tensorflow as tf

        waiting = list(self.inputs if data is None else data)
        for place in range(len(waiting)):
            label = f"input {place}"
            if label in self._wanted:
                self._computed[label] = np.asarray(waiting[place])
            waiting[place] = self._forced.get(label, waiting[place])
        given = _mapped(arguments, lambda one: tf.cast(tf.constant(waiting.pop(0)), one.dtype))
        self._enter(_tensors(given))
        return given

    @contextmanager
    def _split(self, layer: Any, taken: list[Any]) -> Iterator[None]:
        """See what a kernel returns before the layer's own activation gets it."""
        kernel, activation = _kernel_of(layer), _maybe(layer, "activation")
        if kernel is None or not _activation(layer):
            yield
            return

        @functools.wraps(activation)
        def split(values: Any, *args: Any, **kwargs: Any) -> Any:
            inputs = tuple(self._label(one) for one in taken)
            between = self._given(values)
            self._nodes += _linear(layer, kernel, inputs, (self._label(between),))
            size = len(self._nodes)
            returned = activation(between, *args, **kwargs)
            if len(self._nodes) == size:  # no layer, which would have been seen
                returned = self._given(returned)
                self._nodes.append(_activated(layer, self._label(between), self._label(returned)))
            return returned

        # Past the framework's own __setattr__, which looks for layers and variables to keep.
        object.__setattr__(layer, "activation", split)
        try:
            yield
        finally:
            object.__setattr__(layer, "activation", activation)

    def _add(self, layer: Any, taken: list[Any], returned: Any) -> Any:
        observations, self._latest = self._latest, []
        seen = [one.layer for one in observations if one.observed == "in-model"]
        if observations and not seen:
            return returned
        inputs = tuple(self._label(one) for one in taken)
        returned = _mapped(returned, lambda one: one if any(one is each for each in taken) else self._given(one))
        outputs = tuple(self._label(one) for one in _tensors(returned) if not any(one is each for each in taken))
        # TimeDistributed calls its layer for each step, and shows only itself.
        for norm in dict.fromkeys(seen or [""]) if outputs else ():
            self._nodes += _nodes(layer, inputs, outputs, norm)
        return returned

    def _given(self, tensor: Any) -> Any:
        """Return what is to go on for a tensor that was just computed, under a new label."""
        label = self._next()
        if label in self._wanted:
            self._computed[label] = _array(tensor)
        if label in self._forced:
            import tensorflow as tf

            tensor = tf.cast(tf.constant(self._forced[label]), tensor.dtype)
        self._name(tensor, label)
        return tensor

    def _label(self, tensor: Any) -> str:
        if id(tensor) not in self._labels:
            self._name(tensor, self._next())
        return self._labels[id(tensor)]

    def _next(self) -> str:
        self._count += 1
        return f"value {self._count}"

    def _name(self, tensor: Any, label: str) -> None:
        self._held.append(tensor)
        self._labels[id(tensor)] = label


@contextmanager
def traced(trace: Trace, *kerases: Any) -> Iterator[Trace]:
    """Follow every call of a layer of the given modules, Keras 3 or tf-keras or both, meanwhile."""
    owners = [(keras.layers.Layer, ()) for keras in kerases]
    # What Keras 3 makes of `keras.ops.relu(x)` and its like in a functional model. A layer is one too.
    owners += [(keras.Operation, keras.layers.Layer) for keras in kerases if hasattr(keras, "Operation")]
    originals = [owner.__call__ for owner, _ in owners]
    for (owner, besides), original in zip(owners, originals, strict=True):
        owner.__call__ = _followed(trace, original, besides)
    try:
        yield trace
    finally:
        for (owner, _), original in zip(owners, originals, strict=True):
            owner.__call__ = original


def _followed(trace: Trace, original: Callable[..., Any], besides: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, besides):
            return original(layer, *args, **kwargs)
        return trace.around(layer, (args, kwargs), lambda given: original(layer, *given[0], **given[1]))

    return call


def _tensors(structure: Any) -> list[Any]:
    import tensorflow as tf

    return [one for one in tf.nest.flatten(structure) if _is_tensor(one)]


def _is_tensor(one: Any) -> bool:
    import tensorflow as tf

    return isinstance(one, tf.Tensor) and hasattr(one, "numpy")


def _mapped(structure: Any, change: Callable[[Any], Any]) -> Any:
    """Return a structure with every tensor in it changed."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda one: change(one) if _is_tensor(one) else one, structure)


def _array(tensor: Any) -> Array:
    values = np.asarray(tensor)
    return values.astype(np.float32) if values.dtype.name == "bfloat16" else values


def _values(arrays: tuple[Array, ...]) -> tuple[Value, ...]:
    return tuple(Value(f"input {place}", array.shape, array.dtype.name) for place, array in enumerate(arrays))


def _nodes(layer: Any, inputs: tuple[str, ...], outputs: tuple[str, ...], norm: str) -> Iterator[Node]:
    """Yield the operations of one call: one, or two for a separable convolution."""
    inner = layer.layer if type(layer).__name__ == "TimeDistributed" else layer
    name, kind = str(layer.name), type(inner).__name__
    if norm:
        yield Node(name, network.BATCH_NORM, inputs[:1], outputs, layer=norm, geometry=_of_norm(inner))
        return
    kernel = _kernel_of(inner)
    if kernel is not None:
        if _activation(inner):  # of a TimeDistributed, which calls what its layer does, not its layer
            between = f"{outputs[0]} before"
            yield from _linear(inner, kernel, inputs, (between,))
            yield _activated(inner, between, outputs[0])
        else:
            yield from _linear(inner, kernel, inputs, outputs)
        return
    operation = _SAME.get(kind, kind.lower())
    if kind == "Activation":
        operation = _activation(inner) or "identity"
    padded = kind.startswith("ZeroPadding")
    limits, setting = _limits(inner, kind), _setting(inner, operation)
    yield Node(name, operation, inputs, outputs, padded=padded, limits=limits, setting=setting)


def _of_norm(layer: Any) -> Geometry:
    axes = getattr(layer, "axis", -1)
    axis = axes[0] if isinstance(axes, (list, tuple)) else axes
    rank = getattr(getattr(layer, "input_spec", None), "ndim", None)
    return Geometry(channel_axis=int(axis) - rank if rank and int(axis) >= 0 else int(axis))


def _limits(layer: Any, kind: str) -> ActivationLimits | None:
    """Return where an activation cuts off, if that is all it does."""
    if kind != "ReLU":
        return RELUS.get(_activation(layer) if kind == "Activation" else kind.lower())
    if not hasattr(layer, "max_value"):
        return RELUS["relu"]
    if layer.negative_slope or layer.threshold:
        return None
    return ActivationLimits(0.0, float("inf") if layer.max_value is None else float(layer.max_value))


def _activated(layer: Any, x: str, y: str) -> Node:
    function = _activation(layer)
    setting = _setting(layer, function)
    return Node(f"{layer.name} {function}", function, (x,), (y,), limits=RELUS.get(function), setting=setting)


def _setting(layer: Any, operation: str) -> str:
    """Return along which axis a softmax is; that of Keras's activation is the last one."""
    if operation == "softmax":
        axis = getattr(layer, "axis", -1) if type(layer).__name__ == "Softmax" else -1
        return f"axis {axis}" if isinstance(axis, int) and axis < 0 else ""
    if operation == "argmax":
        axis = getattr(layer, "axis", None)
        return f"axis {axis}" if isinstance(axis, int) and axis < 0 else ""
    return "elementwise" if operation == "sigmoid" else ""


def _linear(
    layer: Any, kernel: tuple[Kernel, str], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Iterator[Node]:
    """Yield the linear operations of a call, without the activation."""
    name, kind = str(layer.name), type(layer).__name__
    padded = getattr(layer, "padding", "valid") == "same"
    first_axis = getattr(layer, "data_format", "channels_last") == "channels_first"
    rank = int(getattr(layer, "rank", 0) or (2 if kind.startswith("Depthwise") else 0))
    geometry = Geometry(channel_axis=-1 - rank if first_axis else -1)
    if not kind.startswith("Separable"):
        yield Node(name, kernel[1], inputs[:1], outputs, kernel[0], padded=padded, geometry=geometry)
        return
    between = (f"{outputs[0]} between",)
    depthwise = _numpy(layer.depthwise_kernel)
    first = Kernel(_depthwise(depthwise), None, depthwise.shape[-2])
    yield Node(f"{name} depthwise", network.DEPTHWISE, inputs[:1], between, first, padded=padded, geometry=geometry)
    yield Node(name, network.CONVOLUTION, between, outputs, kernel[0], geometry=geometry)


def _kernel_of(layer: Any) -> tuple[Kernel, str] | None:
    """Return the constants of a linear layer, the pointwise ones of a separable one; None for every other layer."""
    kind = type(layer).__name__
    if kind.startswith("Separable") and getattr(layer, "pointwise_kernel", None) is not None:
        pointwise = _numpy(layer.pointwise_kernel)
        return Kernel(pointwise.reshape(1, *pointwise.shape[-2:]), _bias(layer)), network.CONVOLUTION
    kernel, operation = _kernel(layer, kind)
    return None if kernel is None else (kernel, operation)


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
