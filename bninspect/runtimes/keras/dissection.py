"""A Keras model taken apart: its forward pass is traced into a graph, of which any part can run by itself.

No optimisation changes the order of operations, so that a graph computes what the model computes layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np

from bninspect.records import Array
from bninspect.runtimes import graph_steps, loading
from bninspect.runtimes.dissection import Arriving, Dissection
from bninspect.runtimes.keras import hook, symbolic_input
from bninspect.runtimes.keras.framework import Framework
from bninspect.runtimes.runtime import Input


def dissect(
    framework: Framework, model: Any, layers: Mapping[str, Any], taken: tuple[Input, ...], data: Mapping[str, Array]
) -> Dissection:
    """Take a model apart, for data of one shape.

    Args:
        framework: Keras 3 or tf-keras.
        model: of it.
        layers: its batch norms by the names of the stored layers.
        taken: its inputs.
        data: by the names of the inputs.

    Raises:
        RuntimeFailure: it cannot be traced into a graph, or holds a loop.
    """
    import tensorflow as tf

    names = list(data)
    inputs: list[Any] = []
    arriving: list[Arriving] = []
    wanted: list[Any] = []
    by_identity = {id(layer): name for name, layer in layers.items()}

    def run(*tensors: Any) -> Any:
        inputs[:] = tensors
        return model(symbolic_input.fed(model, taken, dict(zip(names, tensors, strict=True))), training=False)

    def around(layer: Any, x: Any, training: Any, mask: Any, compute: Any) -> Any:
        name = by_identity.get(id(layer))
        if name is not None and not framework.trains(layer, training):
            honoured = mask is not None and framework.training(layer, True).honours_mask  # noqa: FBT003
            arriving.append(Arriving(name, x.name, partial(hook.axes, layer), mask.name if honoured else ""))
            wanted.extend((x, mask) if honoured else (x,))
        return compute()

    owner = framework.batch_norm
    original = owner.call
    owner.call = hook.hooked(original, around)
    try:
        with loading.failing_as("the model cannot be taken apart"), loading.quiet():
            given = [tf.TensorSpec(values.shape, values.dtype) for values in data.values()]
            function = tf.compat.v1.wrap_function(run, given)
    finally:
        owner.call = original
    with loading.failing_as("the model cannot be taken apart"):
        steps = tuple(graph_steps.steps(inputs, dict(_statistics(function, layers)), wanted))
    return Dissection(
        steps,
        tuple(arriving),
        lambda values: {tensor.name: values[name] for name, tensor in zip(names, inputs, strict=True)},
        _Parts(function).run,
    )


def _statistics(function: Any, layers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the tensors of a graph that stand for variables which are moving statistics, with their layers."""
    variables = {
        id(_handle(getattr(layer, parameter))): name
        for name, layer in layers.items()
        for parameter in ("moving_mean", "moving_variance")
    }
    for outside, inside in function.graph.captures:
        if id(outside) in variables:
            yield inside.name, variables[id(outside)]


def _handle(variable: Any) -> Any:
    """Return what a graph captures of a variable; that of Keras 3 is around one of TensorFlow's."""
    return variable.handle if hasattr(variable, "handle") else variable.value.handle


class _Parts:
    """Parts of a traced function, each from given tensors to wanted ones."""

    def __init__(self, function: Any) -> None:
        self._part = lru_cache(maxsize=None)(partial(_part, function))

    def run(self, given: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        """Compute tensors by name from others. Raises RuntimeFailure."""
        import tensorflow as tf

        with loading.failing_as("the model cannot be run in parts"), _as_it_is():
            found = self._part(tuple(given), tuple(names))(*map(tf.constant, given.values()))
            return {name: np.asarray(tensor) for name, tensor in zip(names, found, strict=True)}


def _part(function: Any, given: tuple[str, ...], names: tuple[str, ...]) -> Any:
    """Return a function of the operations between given and wanted tensors, with the variables that these take.

    `function.prune` would take all variables of the model along for each part.
    """
    import tensorflow as tf

    graph = function.graph
    variables = {inside.name: outside for outside, inside in graph.captures}
    part, taken = tf.compat.v1.GraphDef(), set()
    part.library.CopyFrom(graph.as_graph_def(from_version=graph.version).library)
    waiting, seen = [graph.get_tensor_by_name(name).op for name in names], set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        node = part.node.add()
        node.CopyFrom(operation.node_def)
        node.attr.pop("_class", None)  # names operations beside which to be placed, which need not be in this part
        ends = [tensor.name for tensor in operation.inputs if tensor.name in given or tensor.name in variables]
        taken.update(ends)
        waiting += [tensor.op for tensor in operation.inputs if tensor.name not in ends]
        waiting += operation.control_inputs

    def run(*tensors: Any) -> Any:
        inside = dict(zip(given, tensors, strict=True))
        here = tf.compat.v1.get_default_graph()
        inside |= {name: here.capture(variables[name]) for name in taken if name not in inside}
        fed = {name: tensor for name, tensor in inside.items() if name in taken}
        return tf.graph_util.import_graph_def(part, input_map=fed, return_elements=names, name="")

    sources = [graph.get_tensor_by_name(name) for name in given]
    return tf.compat.v1.wrap_function(run, [tf.TensorSpec(source.shape, source.dtype) for source in sources])


@contextmanager
def _as_it_is() -> Iterator[None]:
    """Have TensorFlow run graphs without changing them."""
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
