"""Small layers and observations for tests; the outputs are computed by NumPy in float32, not by our formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from bninspect.records import Array, BatchNorm, Form, Observation


def frozen(values: Any, dtype: str = "float32") -> Array:
    array = np.array(values, dtype)
    array.setflags(write=False)
    return array


def layer(name: str = "bn", **changes: Any) -> BatchNorm:
    fields: dict[str, Any] = {
        "name": name,
        "gamma": frozen([1.5, -0.5, 2.0]),
        "beta": frozen([0.25, 1.0, -1.0]),
        "moving_mean": frozen([0.5, -2.0, 3.0]),
        "moving_variance": frozen([0.0004, 1.0, 4.0]),
        "epsilon": 1e-3,
        "epsilon_source": "file",
        "momentum": 0.99,
        "axis": (-1,),
        "scale": True,
        "center": True,
        "location": f"model_weights/{name}",
        "class_name": "BatchNormalization",
    }
    return BatchNorm(**{**fields, **changes})


def observation(of: BatchNorm, observed: str = "in-model", **changes: Any) -> Observation:
    """Return a call of a layer as a correct float32 kernel makes it."""
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    one = np.float32(1)
    arrays = {name: np.asarray(array, np.float32) for name, array in of.arrays.items()}
    scale = one / np.sqrt(arrays["moving_variance"] + np.float32(of.epsilon or 0))
    y = (x - arrays["moving_mean"]) * scale * arrays.get("gamma", one) + arrays.get("beta", np.float32(0))
    fields: dict[str, Any] = {
        "layer": of.name,
        "observed": observed,
        "x": x,
        "y": y,
        "axis": (2,),
        "form": Form.UNKNOWN,
        "epsilon": of.epsilon,
        "loaded": of.arrays,
    }
    return Observation(**{**fields, **changes})
