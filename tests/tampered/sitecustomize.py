"""A framework that is wrong in one way, for tests: $TAMPER says which. Python imports this module at its start.

What bninspect must find is thereby on the runtime's side, in a real run from the command line.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from typing import Any

PATCHED = "tf_keras.src.layers.normalization.batch_normalization"
LAYER = "batch_normalization_2"


def _flip_lowest_bit(layer: Any, name: str, channel: int) -> None:
    import numpy as np

    values = getattr(layer, name).numpy()
    values.view(np.uint32)[channel] ^= np.uint32(1)
    getattr(layer, name).assign(values)


def _tamper(module: Any) -> None:
    base = module.BatchNormalizationBase
    call = base.call
    what, _, detail = os.environ["TAMPER"].partition(":")

    def wrong_call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if self.name != LAYER:
            return call(self, inputs, training=training, mask=mask)
        if what == "bit" and not getattr(self, "_tampered", False):
            self._tampered = True
            name, channel = detail.split(",")
            _flip_lowest_bit(self, name, int(channel))
        if what == "epsilon":
            self.epsilon = float(detail)
        if what == "hidden-epsilon":
            stated, self.epsilon = self.epsilon, float(detail)
            try:
                return call(self, inputs, training=training, mask=mask)
            finally:
                self.epsilon = stated
        if what == "swap":
            self.gamma, self.beta = self.beta, self.gamma
            try:
                return call(self, inputs, training=training, mask=mask)
            finally:
                self.gamma, self.beta = self.beta, self.gamma
        if what == "abort":
            os.abort()
        if what == "hang":
            import ctypes

            ctypes.PyDLL(None).sleep(600)
        result = call(self, inputs, training=training, mask=mask)
        return result * float("nan") if what == "nan" else result

    base.call = wrong_call


class _Patcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != PATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def patched(module: Any) -> None:
            execute(module)
            _tamper(module)

        spec.loader.exec_module = patched  # type: ignore[method-assign]
        return spec


if os.environ.get("TAMPER"):
    sys.meta_path.insert(0, _Patcher())
