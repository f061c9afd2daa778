"""A framework that is wrong in one way, for tests: $TAMPER says which.

With `by-name` the name of a layer says how it ends its process, so that one model among many does: `bn_hang`.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

MODULES = {"tf_keras.src.backend", "tf_keras.src.layers.normalization.batch_normalization"}

LAYER = "batch_normalization_2"


def _flip_lowest_bit_on_loading(backend: Any, name: str, channel: int) -> None:
    import numpy as np

    load = backend.batch_set_value

    def batch_set_value(pairs: Any) -> None:
        pairs = [(variable, np.array(value)) for variable, value in pairs]
        for variable, value in pairs:
            if variable.name.startswith(f"{LAYER}/{name}"):
                value.view(np.uint32)[channel] ^= np.uint32(1)
        load(pairs)

    backend.batch_set_value = batch_set_value


def _misbehave(how: str) -> None:
    if how == "abort":
        os.abort()
    if how == "hang":
        import ctypes

        if note := os.environ.get("HANGS"):  # a file that tells when
            pathlib.Path(note).touch()
        ctypes.PyDLL(None).sleep(600)
    if how == "devour":
        import time

        held = []
        for _ in range(1000):  # 20 GB, which no test lets it have
            held.append(b"x" * 20_000_000)
            time.sleep(0.005)


def _compute_wrongly(module: Any, what: str, detail: str) -> None:
    base = module.BatchNormalizationBase
    call = base.call

    def wrong_call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if what == "by-name":
            _misbehave(str(self.name).rpartition("_")[2])
        if self.name != LAYER or what == "by-name":
            return call(self, inputs, training=training, mask=mask)
        _misbehave(what)
        stated = self.epsilon
        if what in {"epsilon", "hidden-epsilon"}:
            self.epsilon = float(detail)
        result = call(self, inputs, training=training, mask=mask)
        if what == "hidden-epsilon":
            self.epsilon = stated
        if what == "swap":
            return (result - self.beta) / self.gamma * self.beta + self.gamma
        return result * float("nan") if what == "nan" else result

    base.call = wrong_call


def patch(module: Any) -> None:
    """Make one layer wrong, or the process end."""
    what, _, detail = os.environ["TAMPER"].partition(":")
    if what == "bit" and module.__name__.endswith("backend"):
        name, channel = detail.split(",")
        _flip_lowest_bit_on_loading(module, name, int(channel))
    if what != "bit" and not module.__name__.endswith("backend"):
        _compute_wrongly(module, what, detail)
