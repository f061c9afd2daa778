"""The order in which Keras 3 calls the layers of a functional model, from its configuration.

Nodes that are farther from the outputs come first; among those as far, the ones that the search from the outputs meets
last (keras/src/ops/function.py: _build_map, map_graph, _run_through_graph).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Place = tuple[str, int]
"""The name of a layer, and which of its calls."""


def calls(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the layers of a functional model as Keras 3 calls them, each with its call: `{"args", "kwargs"}`.

    Args:
        config: of the model. What leads nowhere in it is left out.
    """
    stored = _stored(config)
    depths: dict[Place, int] = {}
    of_layer: dict[str, int] = {}
    for place in reversed(_searched(stored, list(_outputs(config)))):
        depth = max(depths.setdefault(place, 0), of_layer.get(place[0], 0))
        of_layer[place[0]] = depths[place] = depth
        for parent in _parents(stored[place]):
            if parent in stored:
                depths[parent] = max(depth + 1, depths.get(parent, 0))
    for place in sorted(depths, key=lambda place: -depths[place]):  # sorted keeps the order of those as far
        if stored[place] is not None:
            yield place[0], stored[place]


def entry_name(entry: Mapping[str, Any]) -> str:
    """Return the name of an object in a configuration, a layer for instance; empty if it has none."""
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return name if isinstance(name, str) else ""


def layers_in(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a model's configuration lists as its layers, by name."""
    layers = config.get("layers")
    listed = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    return {name: layer for layer in listed if (name := entry_name(layer))}


def _stored(config: Mapping[str, Any]) -> dict[Place, Any]:
    """Return the calls of all layers; None for an input, which nothing calls."""
    found: dict[Place, Any] = {}
    for name, layer in layers_in(config).items():
        nodes = layer.get("inbound_nodes")
        if isinstance(nodes, list):
            found |= {(name, number): node for number, node in enumerate(nodes)} or {(name, 0): None}
    return found


def _outputs(config: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the calls that make the outputs; there, unlike in a call, those of a functional model count from 1."""
    functional = {name for name, layer in layers_in(config).items() if "output_layers" in (layer.get("config") or ())}
    for name, number in _histories(config.get("output_layers")):
        yield name, number - (name in functional)


def _searched(stored: Mapping[Place, Any], outputs: list[Place]) -> list[Place]:
    """Return the calls that lead to the outputs, each behind those that it needs."""
    found: dict[Place, None] = {}
    entered: set[Place] = set()
    stack = [(place, False) for place in reversed(outputs)]
    while stack:
        place, left = stack.pop()
        if left:
            found[place] = None
        elif place in stored and place not in entered:
            entered.add(place)
            stack.append((place, True))
            stack += [(parent, False) for parent in reversed(_parents(stored[place]))]
    return list(found)


def _parents(call: Any) -> list[Place]:
    if not isinstance(call, dict):
        return []
    return [*_tensors(call.get("args")), *_tensors(call.get("kwargs"))]


def _tensors(value: Any) -> Iterator[Place]:
    """Yield where the tensors in the arguments of a call come from; dictionaries are flattened by their keys."""
    if isinstance(value, dict):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, dict):
            yield from _histories(config.get("keras_history"))
        else:
            for key in sorted(value):
                yield from _tensors(value[key])
    elif isinstance(value, list):
        for part in value:
            yield from _tensors(part)


def _histories(value: Any) -> Iterator[Place]:
    """Yield the places in `[layer, call, tensor]`, or in any structure of them."""
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        yield value[0], value[1]
    elif isinstance(value, (list, dict)):
        for part in value if isinstance(value, list) else (value[key] for key in sorted(value)):
            yield from _histories(part)
