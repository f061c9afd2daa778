"""TensorFlow Lite as TensorFlow ships it: LiteRT by its older name."""

from __future__ import annotations

from functools import partial
from typing import Any

from bninspect.runtimes import litert, loading


def _tensorflow() -> tuple[str, Any]:
    tensorflow = loading.framework("tensorflow")
    return f"TensorFlow Lite of TensorFlow {tensorflow.__version__}", tensorflow.lite


observe = partial(litert.observe_in, _tensorflow)
observe_layers = partial(litert.refuse_layers, _tensorflow)
opened = partial(litert.open_in, _tensorflow)
