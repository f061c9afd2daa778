"""Which layer feeds which in a Keras model, seen as it runs: every call of every layer, also in nested models.

The tensors of an eager forward pass are followed by identity: what one layer returns, the next one is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bninspect.records import Array, Observation
from bninspect.records.graph import Kernel, Network, Node, Value
from bninspect.runtimes.keras import operations
from bninspect.runtimes.keras.hook import widened
from bninspect.runtimes.keras.idle_calls import LayerCall, SkippableCalls
from bninspect.runtimes.keras.structures import is_symbolic, is_tensor, mapped, tensors


class Trace:
    """The calls of one forward pass, with what came out of the batch norms and of the model; it can be run again."""

    def __init__(self) -> None:
        self._start()
        self._again: Callable[[Sequence[Array] | None], Any] | None = None
        self.inputs: tuple[Array, ...] = ()
        self.outputs: tuple[Array, ...] = ()
        """What the model took and returned."""
        self.outlines: Mapping[str, Value] = {}
        """The shapes and types of the values of that pass that can be seen, by label."""
        self._returned: tuple[str, ...] = ()
        """The labels of what it returned, as they were in that pass; empty where no call was seen to make one."""
        self._kernels: dict[int, tuple[Kernel, str]] = {}
        """The constants of each layer, by identity: read once, however often it is called."""
        self._calls = SkippableCalls()
        """Those of that pass, which a replay makes again unless it can do without them."""

    def _start(self) -> None:
        self._nodes: list[Node] = []
        self._labels: dict[int, str] = {}
        self._shapes: dict[str, Value] = {}
        # While a tensor is held here its identity cannot become another tensor's.
        self._held: list[Any] = []
        self._depth = 0
        self._closed = False
        """Whether what the layer that is being called calls itself is not looked at."""
        self._count = 0
        self._latest: list[Observation] = []
        self._forced: Mapping[str, Array] = {}
        self._wanted: frozenset[str] = frozenset()
        self._computed: dict[str, Array] = {}
        self._inside = False

    def begin(self) -> None:
        """Forget everything: another attempt starts."""
        self.__init__()  # type: ignore[misc]

    def see(self, observation: Observation) -> None:
        """Take note of an observation while its layer is still being called."""
        self._latest.append(observation)

    def network(self) -> Network:
        """Return what was called; its values are numbered."""
        given = tuple(Value(f"output {place}", one.shape, one.dtype.name) for place, one in enumerate(self.outputs))
        ends = (
            Node(one.name, "identity", (label,), (one.name,))
            for one, label in zip(given, self._returned, strict=True)
            if label
        )
        return Network(_values(self.inputs), given, (*self._nodes, *ends))

    def replay(
        self,
        data: Sequence[Array] | None,
        forced: Mapping[str, Array],
        wanted: Iterable[str],
        *,
        inside: bool = False,
    ) -> Mapping[str, Array]:
        """Run the model again, values that are forced replaced where they are computed, so that all behind takes these.

        Args:
            data: input in the order of the model's; what it got the first time if None.
            forced: by label; of the shape of what they replace.
            wanted: labels, among them `output 0` and so on.
            inside: whether what a layer keeps between two kernels counts too, which can be seen and never be forced.

        Returns:
            What the model computed of the wanted values, before it was replaced.
        """
        assert self._again is not None  # noqa: S101 - a model that was never run has no labels
        self._start()
        self._forced, self._wanted, self._depth, self._inside = forced, frozenset(wanted), 1, inside
        ends = {f"output {place}": label for place, label in enumerate(self._returned)}
        same = data is None or [one.shape for one in data] == [one.shape for one in self.inputs]
        self._calls.again([ends.get(one, one) for one in self._wanted] if same else None, forced)
        outputs = tensors(self._again(data))
        found = self._computed
        found |= {f"output {place}": widened(one) for place, one in enumerate(outputs)}
        self._start()
        return {name: values for name, values in found.items() if name in wanted}

    def around(self, layer: Any, arguments: Any, compute: Callable[[Any], Any]) -> Any:
        """Call a layer, and remember what it took and returned."""
        building = self._depth == 0 and is_symbolic(arguments)  # a model, from its file
        if not building:
            self._calls.look_at(layer)
        if building or self._closed:
            return compute(arguments)
        place = self._calls.enter()
        if (known := self._calls.idle.get(place)) is not None:
            return self._stand_in(known)
        taken = tensors(arguments)
        before = len(self._nodes)
        first = self._depth == 0
        if first:
            self._enter(taken)
        self._depth += 1
        self._latest = []
        self._closed = _is_step_by_step(layer)
        try:
            with self._split(layer, taken):
                returned = compute(arguments)
        finally:
            self._depth -= 1
            self._closed = False
        if len(self._nodes) == before and taken and tensors(returned):
            returned = self._add(layer, taken, returned)
        if first and not self.outputs and len(self._nodes) > before:
            self.inputs = tuple(widened(one) for one in taken)
            self.outputs = tuple(widened(tensor) for tensor in tensors(returned))
            self._returned = tuple(self._labels.get(id(tensor), "") for tensor in tensors(returned))
            self.outlines = self._shapes
            self._calls.end(self._nodes)
            self._again = lambda data: compute(self._fed(arguments, data))
        elif not self.outputs and is_tensor(returned):
            label, shape = self._labels.get(id(returned), ""), tuple(returned.shape)
            self._calls.leave(place, self._nodes[before:], label, shape, returned.dtype, self._count)
        return returned

    def _stand_in(self, call: LayerCall) -> Any:
        """Return what goes on for a call that is left out: what is given, or zeros that nobody looks at."""
        import tensorflow as tf

        self._calls.place, self._count = call.behind, call.count
        given = self._forced.get(call.returned)
        tensor = tf.zeros(call.shape, call.dtype) if given is None else tf.cast(tf.constant(given), call.dtype)
        self._name(tensor, call.returned)
        return tensor

    def _enter(self, taken: Sequence[Any]) -> None:
        for place, one in enumerate(taken):
            self._name(one, f"input {place}")
            self._outline(one, f"input {place}")

    def _fed(self, arguments: Any, data: Sequence[Array] | None) -> Any:
        """Return the arguments of the model with other arrays in the place of its inputs."""
        import tensorflow as tf

        waiting = list(self.inputs if data is None else data)
        for place in range(len(waiting)):
            label = f"input {place}"
            if label in self._wanted:
                self._computed[label] = np.asarray(waiting[place])
            waiting[place] = self._forced.get(label, waiting[place])
        given = mapped(arguments, lambda one: tf.cast(tf.constant(waiting.pop(0)), one.dtype))
        self._enter(tensors(given))
        return given

    @contextmanager
    def _split(self, layer: Any, taken: list[Any]) -> Iterator[None]:
        """See what a kernel returns before the layer's own activation gets it."""
        kernel = self._kernel(layer)
        activation: Any = getattr(layer, "activation", None)
        if kernel is None or not operations.activation(layer):
            yield
            return

        @functools.wraps(activation)
        def split(values: Any, *args: Any, **kwargs: Any) -> Any:
            inputs = tuple(self._label(tensor) for tensor in taken)
            between = self._given(values)
            self._nodes += operations.linear(layer, kernel, inputs, (self._label(between),))
            self._look_inside(layer, taken, self._label(between))
            size = len(self._nodes)
            returned = activation(between, *args, **kwargs)
            if len(self._nodes) == size:  # no layer, which would have been seen
                returned = self._given(returned)
                self._nodes.append(operations.activated(layer, self._label(between), self._label(returned)))
            return returned

        # Past the framework's own __setattr__, which looks for layers and variables to keep.
        object.__setattr__(layer, "activation", split)
        try:
            yield
        finally:
            object.__setattr__(layer, "activation", activation)

    def _add(self, layer: Any, taken: list[Any], returned: Any) -> Any:
        observations, self._latest = self._latest, []
        seen = [observation.layer for observation in observations if observation.observed == "in-model"]
        if observations and not seen:
            return returned
        inputs = tuple(self._label(one) for one in taken)
        returned = mapped(returned, lambda one: one if any(one is each for each in taken) else self._given(one))
        outputs = tuple(
            self._label(tensor) for tensor in tensors(returned) if not any(tensor is each for each in taken)
        )
        for label in outputs:
            self._look_inside(layer, taken, label)
        # TimeDistributed calls its layer for each step, and shows only itself.
        for norm in dict.fromkeys(seen or [""]) if outputs else ():
            self._nodes += operations.of_call(layer, self._kernel(operations.inner(layer)), inputs, outputs, norm)
        return returned

    def _look_inside(self, layer: Any, taken: Sequence[Any], output: str) -> None:
        """Compute again what a layer has between two kernels, if that is wanted."""
        label = operations.between_of(output)
        wanted = self._inside and label in self._wanted
        if wanted and (values := operations.depthwise_of(layer, taken[0])) is not None:
            self._computed[label] = widened(values)

    def _kernel(self, layer: Any) -> tuple[Kernel, str] | None:
        found = self._kernels.get(id(layer)) or operations.kernel_of(layer)
        if found is not None:  # a layer that is not built yet has none now
            self._kernels[id(layer)] = found
        return found

    def _given(self, tensor: Any) -> Any:
        """Return what is to go on for a tensor that was just computed, under a new label."""
        label = self._next()
        self._outline(tensor, label)
        if label in self._wanted:
            self._computed[label] = widened(tensor)
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

    def _outline(self, tensor: Any, label: str) -> None:
        """Keep the shape of a value that a replay can show."""
        dtype = tensor.dtype.name
        self._shapes[label] = Value(label, tuple(tensor.shape), "float32" if dtype == "bfloat16" else dtype)

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


def _is_step_by_step(layer: Any) -> bool:
    """Return whether a layer calls another single one on reshaped data, so that nobody could see what feeds that."""
    return type(layer).__name__ == "TimeDistributed" and not getattr(layer.layer, "layers", None)


def _values(arrays: tuple[Array, ...]) -> tuple[Value, ...]:
    return tuple(Value(f"input {place}", array.shape, array.dtype.name) for place, array in enumerate(arrays))
