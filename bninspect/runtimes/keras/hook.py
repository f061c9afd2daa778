"""A hook on the `call` of a layer class: what went in, what came out, also inside nested models and wrappers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from bninspect.records import PARAMETERS, Array, Observation, Replay
from bninspect.runtimes.keras.framework import Framework
from bninspect.runtimes.runtime import Sink

_TRAINING = ("training", "training-probed")


class Recorder:
    """Turns the calls of batch-norm layers into observations, one layer's arrays at a time.

    Args:
        framework: the framework that calls.
        names: for `id(layer)` of each layer that is expected, the name of its stored layer.
        sink: takes the observations.
    """

    def __init__(self, framework: Framework, names: Mapping[int, str], sink: Sink) -> None:
        self._observed = ""
        self.reached: set[tuple[str, str]] = set()
        """How and which stored layers were observed."""
        self.unreplayed: dict[str, str] = {}
        """Stored layers whose training step cannot be replayed, and why."""
        self.strangers: dict[int, str] = {}
        """Name by `id(layer)` of layers that ran and are none of the expected ones."""
        self.hidden: set[str] = set()
        """Stored layers that ran where tensors have no values: in a graph."""
        self._error: Exception | None = None
        self._framework = framework
        self._names = names
        self._sink = sink
        self._parameters: dict[int, Mapping[str, Array]] = {}

    def watch(self, observed: str, call: Callable[[], object]) -> Exception | None:
        """Observe every batch norm in `call`, eagerly; return the exception with which the framework ended it, if any.

        What the sink raises comes out as it is, even if the framework wraps it on its way; so does MemoryError.
        """
        import tensorflow as tf

        self._observed = observed
        owner = self._framework.batch_norm
        original = owner.call
        eager = tf.config.functions_run_eagerly()
        owner.call = hooked(original, self._around)
        tf.config.run_functions_eagerly(run_eagerly=True)
        try:
            call()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - frameworks raise anything
            if self._error is not None:
                raise self._error from None
            return error
        finally:
            tf.config.run_functions_eagerly(run_eagerly=eager)
            owner.call = original
        return None

    def _around(self, layer: Any, inputs: Any, training: Any, mask: Any, compute: Callable[[], Any]) -> Any:
        import tensorflow as tf

        name = self._names.get(id(layer))
        if name is None:
            self.strangers[id(layer)] = str(layer.name)
            return compute()
        if not tf.executing_eagerly():
            self.hidden.add(name)
            return compute()
        trains = self._framework.trains(layer, training)
        loaded = self._loaded(layer)
        replay = None
        if trains or self._observed in _TRAINING:
            with _preserved(layer):
                outputs = compute()
                if self._observed in _TRAINING:
                    replay = self._replay(name, layer, inputs, mask)
        else:
            outputs = compute()
        if self._observed in _TRAINING and replay is None:
            return outputs
        self.reached.add((self._observed, name))
        self._tell(
            Observation(
                layer=name,
                observed=self._observed,
                x=seen_by_kernel(inputs),
                y=array(outputs),
                axis=axes(layer, len(inputs.shape)),
                arithmetic="float64" if inputs.dtype == tf.float64 else "float32",
                output=str(outputs.dtype.name),
                form=self._framework.form(layer),
                epsilon=float(layer.epsilon),
                loaded=loaded,
                training=trains,
                replay=replay,
            )
        )
        return outputs

    def _replay(self, name: str, layer: Any, inputs: Any, mask: Any) -> Replay | None:
        """Return what the call did to the moving statistics; None if it is not a step that we can recompute."""
        how = self._framework.training(layer, mask is not None)
        counting = None if mask is None or not how.honours_mask else np.asarray(mask, np.bool_)[..., np.newaxis]
        refusal = how.refusal
        if counting is not None:
            others = tuple(index for index in range(len(inputs.shape)) if index not in axes(layer, len(inputs.shape)))
            if not np.broadcast_to(counting, inputs.shape).any(axis=others).all():
                refusal = "its mask leaves channels without a value"
        if refusal:
            self.unreplayed[name] = refusal
            return None
        statistics = {one: getattr(layer, one) for one in ("moving_mean", "moving_variance")}
        return Replay(
            after={one: widened(variable.numpy()) for one, variable in statistics.items()},
            momentum=float(layer.momentum),
            estimator=how.estimator,
            kept=_type(statistics["moving_mean"]),
            decay=how.decay,
            one_pass=how.one_pass,
            mask=counting,
            mask_ignored=mask is not None and not how.honours_mask,
            trainable=bool(layer.trainable),
        )

    def _loaded(self, layer: Any) -> Mapping[str, Array]:
        if id(layer) not in self._parameters:
            self._parameters[id(layer)] = parameters(layer)
        return self._parameters[id(layer)]

    def _tell(self, observation: Observation) -> None:
        try:
            self._sink(observation)
        except Exception as error:
            self._error = error
            raise


def hooked(original: Callable[..., Any], around: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `call` of a layer class that goes through `around(layer, inputs, training, mask, compute)`."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(layer, *args, **kwargs).arguments
        inputs, training, mask = (given.get(name) for name in ("inputs", "training", "mask"))
        return around(layer, inputs, training, mask, lambda: original(layer, *args, **kwargs))

    return call


def in_training(original: Callable[..., Any], chosen: frozenset[int]) -> Callable[..., Any]:
    """Return a `call` that calls the layers of the chosen identities with training=True."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(layer, *args, **kwargs)
        if id(layer) in chosen and "training" in signature.parameters:
            bound.arguments["training"] = True
        return original(*bound.args, **bound.kwargs)

    return call


@contextmanager
def _preserved(layer: Any) -> Iterator[None]:
    """Put a layer's variables back afterwards: a call in training mode moves its statistics."""
    before = layer.get_weights()
    try:
        yield
    finally:
        layer.set_weights(before)


def axes(layer: Any, rank: int) -> tuple[int, ...]:
    """Return the axes of a layer, counted from the front of its input."""
    axis = layer.axis
    return tuple(int(number) % rank for number in (axis if isinstance(axis, (list, tuple)) else [axis]))


def parameters(layer: Any) -> Mapping[str, Array]:
    """Return the parameters that a built layer holds, by standard name."""
    variables = {name: getattr(layer, name, None) for name in PARAMETERS}
    return {name: widened(variable.numpy()) for name, variable in variables.items() if variable is not None}


def array(tensor: Any) -> Array:
    """Return an eager tensor as a read-only array, without copying where NumPy has its type."""
    values = widened(tensor)
    values.flags.writeable = False
    return values


def seen_by_kernel(tensor: Any) -> Array:
    """Return the input of a layer as its kernel sees it."""
    values = array(tensor)
    # Both frameworks cast integers to float32 first.
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def _type(variable: Any) -> str:
    dtype = variable.dtype
    return str(getattr(dtype, "name", dtype))


def widened(values: Any) -> Array:
    """Return values as an array; those of bfloat16, which NumPy does not know, in float32."""
    array: Array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
