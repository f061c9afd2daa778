"""The configuration of a Keras 2 file in the words of Keras 3, for machines that have no tf-keras.

Only names and forms change, never a number: the weights stay in the file, and what the framework made of them is
compared with it afterwards. Source: what Keras 3.15 refuses in files of Keras 2.2 to 2.4, TF 1.15 to 2.3 and tf-keras.
"""

from __future__ import annotations

import json
from typing import Any

_CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "Experimental>SyncBatchNormalization": "BatchNormalization",
}
_MODELS = ("Functional", "Model", "Sequential")


def cleaned(architecture: str) -> dict[str, Any] | None:
    """Return the `class_name` and `config` of a model as Keras 3 takes them; None if there is nothing to change."""
    after = _clean(json.loads(architecture))
    return after if isinstance(after, dict) and after != json.loads(architecture) else None


def _clean(value: Any) -> Any:
    """Clean anything that JSON holds; `value` itself changes."""
    if isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value:
        if value["class_name"] == "Policy":
            return value["config"]["name"]
        _clean_object(value)
    if isinstance(value, dict):
        return {key: _clean(one) for key, one in value.items()}
    return [_clean(entry) for entry in value] if isinstance(value, list) else value


def _clean_object(value: dict[str, Any]) -> None:
    name = value["class_name"]
    value["class_name"] = _CLASSES.get(name, name)
    if name == "Sequential" and isinstance(value["config"], list):  # up to Keras 2.2.2
        value["config"] = {"name": "sequential", "layers": value["config"]}
    config = value["config"]
    if not isinstance(config, dict):
        return
    for key, one in config.items():
        if key.endswith("_initializer") and isinstance(one, dict) and isinstance(one.get("config"), dict):
            one["config"].pop("dtype", None)
    if name == "DepthwiseConv2D":
        config.pop("groups", None)
    if name == "Sequential":
        _give_input(config["layers"])
    elif name != "InputLayer":
        config.pop("batch_input_shape", None)
    if "input_layers" in config:
        _renumber(config)


def _give_input(layers: list[Any]) -> None:
    """Put an input layer before the first layer of a Sequential that states the shape of its input itself."""
    first = layers[0]
    shape = first["config"].get("batch_input_shape")
    if shape is not None and first["class_name"] != "InputLayer":
        dtype = "int32" if first["class_name"] == "Embedding" else "float32"
        layers.insert(0, {"class_name": "InputLayer", "config": {"batch_input_shape": shape, "dtype": dtype}})


def _renumber(config: dict[str, Any]) -> None:
    """Count the calls of nested models from 0: in Keras 2 the first one is their own construction.

    Keras 3 does it by itself for the outputs of a nested Functional, not for those of a Sequential.
    """
    models = {layer["name"]: layer["class_name"] for layer in config["layers"] if layer["class_name"] in _MODELS}
    nodes = [node for layer in config["layers"] for node in layer["inbound_nodes"]]
    for reference in (reference for node in nodes for reference in node):
        reference[1] -= reference[0] in models
    for reference in config["output_layers"]:
        reference[1] -= models.get(reference[0]) == "Sequential"
