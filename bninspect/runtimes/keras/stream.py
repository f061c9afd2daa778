"""A Keras model through which data streams: its batch norms are listened to as it runs, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import Array, Arrival, Checkpoint
from bninspect.runtimes import loading
from bninspect.runtimes.keras import dissection, hook, matching, noises, symbolic_input
from bninspect.runtimes.keras.framework import Framework
from bninspect.runtimes.keras.run import forward as forward_of
from bninspect.runtimes.keras.run import loaded, session, surroundings
from bninspect.runtimes.runtime import Receive, RunSettings, Stream

_IN_TRAINING = "the model calls it with training=True: it normalises by batch statistics"
_IN_A_GRAPH = "it runs inside a graph, where its input and output cannot be seen"
_SEED = 0
"""Of dropout and augmentation, so that they are the same every time."""
_UNMATCHED = "no batch-norm layer of the loaded model is this one"


class _Enough(Exception):
    """All layers that were asked for have been reached."""


@contextmanager
def streaming(start: Callable[[], Framework], checkpoint: Checkpoint, settings: RunSettings) -> Iterator[Stream]:
    """Have a framework load the file itself.

    Raises:
        UnreadableFile: the file is no longer what was read.
        RuntimeFailure: the framework cannot load it.
    """
    framework = start()
    loading.same_bytes(checkpoint)
    with session(framework):
        framework.keras.utils.set_random_seed(_SEED)  # before: each layer draws its own seed when it is made
        model, notes = loaded(framework, checkpoint, settings)
        yield of_model(framework, model, checkpoint, notes)


def of_model(framework: Framework, model: Any, checkpoint: Checkpoint, notes: tuple[str, ...] = ()) -> Stream:
    """Return the stream of a model that is in this process already. Running it leaves it as it was."""
    found = matching.batch_norms(model, framework.batch_norm)
    names = matching.match(checkpoint.layers, found)
    by_name = {names[id(one.layer)]: one.layer for one in found if id(one.layer) in names}
    taken = symbolic_input.taken_by(model, framework.keras.layers.Embedding, checkpoint.architecture)
    unobserved = {layer.name: _UNMATCHED for layer in checkpoint.layers if layer.name not in names.values()}

    def forward(data: Mapping[str, Array], receive: Receive, until: frozenset[str] | None = None) -> None:
        listener = _Listener(framework, names, receive, unobserved, until)
        listener.listen(lambda: forward_of(model, taken, data))

    noise = noises.layers(framework, model)

    def noisy(data: Mapping[str, Array], receive: Receive, until: frozenset[str] | None = None) -> None:
        with noises.active(noise):
            forward(data, receive, until)

    def assign(name: str, values: Mapping[str, Array]) -> None:
        for parameter, numbers in values.items():
            variable = getattr(by_name[name], parameter)
            variable.assign(np.reshape(numbers, tuple(variable.shape)))

    return Stream(
        framework.title,
        taken,
        forward,
        unobserved,
        notes,
        surroundings(),
        noisy=noisy if noise else None,
        assign=assign,
        estimators={name: framework.training(layer, False).estimator for name, layer in by_name.items()},  # noqa: FBT003
        noise=tuple(str(layer.name) for layer in noise),
        dissect=partial(dissection.dissect, framework, model, by_name, taken),
    )


class _Listener:
    """Hands on what arrives at the batch norms of a model while it runs."""

    def __init__(
        self,
        framework: Framework,
        names: Mapping[int, str],
        receive: Receive,
        unobserved: dict[str, str],
        until: frozenset[str] | None,
    ) -> None:
        self._framework = framework
        self._names = names
        self._receive = receive
        self._unobserved = unobserved
        self._until = until
        self._missing = set(until or ())
        self._error: Exception | None = None

    def listen(self, run: Callable[[], None]) -> None:
        """Run the model eagerly; what `receive` raises comes out as it is, even if the framework wraps it."""
        import tensorflow as tf

        owner = self._framework.batch_norm
        original = owner.call
        eager = tf.config.functions_run_eagerly()
        owner.call = hook.hooked(original, self._around)
        tf.config.run_functions_eagerly(run_eagerly=True)
        try:
            run()
        except MemoryError:
            raise
        except Exception as error:
            if isinstance(self._error, _Enough):
                return
            if self._error is not None:
                raise self._error from None
            why = loading.reason(error)
            raise RuntimeFailure(f"{self._framework.title} cannot run the model", why=why) from error
        finally:
            tf.config.run_functions_eagerly(run_eagerly=eager)
            owner.call = original

    def _around(self, layer: Any, x: Any, training: Any, mask: Any, compute: Callable[[], Any]) -> Any:
        import tensorflow as tf

        name = self._names.get(id(layer))
        if name is None:
            return compute()
        if not tf.executing_eagerly() or self._framework.trains(layer, training):
            self._unobserved[name] = _IN_A_GRAPH if not tf.executing_eagerly() else _IN_TRAINING
            return compute()
        self._tell(name, layer, x, mask)
        return compute()

    def _tell(self, name: str, layer: Any, x: Any, mask: Any) -> None:
        honoured = mask is not None and self._framework.training(layer, True).honours_mask  # noqa: FBT003
        counting = np.asarray(mask, np.bool_)[..., np.newaxis] if honoured else None
        try:
            self._receive(Arrival(name, hook.seen_by_kernel(x), hook.axes(layer, len(x.shape)), counting))
            self._missing.discard(name)
            if self._until and not self._missing:
                raise _Enough
        except Exception as error:
            self._error = error
            raise
