"""The architecture of a Keras model, read as data: JSON text to a tree of layers and its batch norms.

Nothing of it is ever handed to Keras, imported or looked up. Understands what Keras 1.2 to 3.15, TensorFlow 1.13
to 2.x and tf_keras write: whole models, nested to any depth, wrappers, shared layers, and custom layers whose
configuration holds the configuration of a batch norm.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.formats.encodings import json_text
from bninspect.formats.keras import training_context
from bninspect.formats.keras.call_order import entry_name
from bninspect.formats.keras.code import code_in
from bninspect.formats.keras.config_node import ConfigNode
from bninspect.formats.keras.norm_config import Calls, NormConfig, hard_wired, norm_config

TEXT_CHARACTERS = 32 << 20
CONTAINERS = 2_000_000
"""Most objects and lists in the text: json.loads makes some 100 bytes of each."""


@dataclass(frozen=True, eq=False)
class Architecture:
    """A model's configuration."""

    root: ConfigNode
    norms: tuple[NormConfig, ...]
    """All batch norms in the model's order; a shared one at every place, marked by `repeats`."""
    code: tuple[str, ...] = ()
    """What in it is, or may run, code: `Lambda 'lambda_1'`."""
    repeats: Mapping[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    """For every node that is the same object as an earlier one: its path, and the path of the earlier one."""


def parse(text: str, label: str) -> Architecture:
    """Read a model's configuration.

    Args:
        text: JSON, as Keras stores it in the attribute `model_config` or in `config.json`.
        label: what error messages call the file.

    Raises:
        DamagedFile: it is not JSON, not a model, or a batch norm's settings are not numbers.
        UnsafeFile: it is larger or nested deeper than a model needs.
    """
    try:
        content = load(text, label)
        if not isinstance(content, dict) or not _is_object(content):
            raise DamagedFile(f"{label} has a configuration that is not a model", why=text[:80])
        root = _node(content, (), "", frozenset({None}), label)
        repeats = _repeats(root)
        handed = training_context.contexts(root)
        norms = [
            replace(node.norm, repeats=repeats.get(node.path), handed=handed.get(node.path, frozenset()))
            for node in root.walk()
            if node.norm
        ]
        complete = tuple(_with_all_calls(norms))
        return Architecture(_with_norms(root, iter(complete)), complete, code_in(content), repeats)
    except RecursionError as error:
        raise UnsafeFile(f"{label} has a configuration that is nested too deeply") from error


def load(text: str, label: str) -> Any:
    """Return JSON `text` as Python data. Duplicate keys, on which parsers differ, are refused.

    Raises:
        DamagedFile, UnsafeFile: as `parse`.
    """
    return json_text.load(text, f"{label} has a configuration", characters=TEXT_CHARACTERS, containers=CONTAINERS)


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value


def _node(entry: dict[str, Any], path: tuple[str, ...], attribute: str, outer: Calls, label: str) -> ConfigNode:
    stored = entry["config"]
    # Keras 1 stores a Sequential as the bare list of its layers, without a name.
    config = {"layers": stored} if isinstance(stored, list) else stored if isinstance(stored, dict) else {}
    calls = _calls(entry, outer)
    children: list[ConfigNode] = []
    nameless: Counter[str] = Counter()
    for key, inner in _objects_in(config):
        name, kind = entry_name(inner), inner["class_name"].lower()
        if not name:
            nameless[kind] += 1
            name = f"{kind}_{nameless[kind]}"  # as Keras 1 would have called it
        children.append(_node(inner, (*path, name), key, calls, label))
    class_name, shared = entry["class_name"], entry.get("shared_object_id")
    return ConfigNode(
        name=path[-1] if path else entry_name(entry),
        class_name=class_name,
        config=config,
        path=path,
        children=tuple(children),
        attribute=attribute,
        shared_id=shared if isinstance(shared, int) else None,
        norm=norm_config(class_name, config, path, calls, label) if path else None,
    )


def _objects_in(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the nearest named objects within `config`, however deep in lists and unnamed objects, with their key."""
    for key, value in config.items():
        if key != "dtype" and isinstance(value, (list, dict)):  # a policy has a name, and is not a layer
            yield from ((key, inner) for inner in _objects_at(value))


def _objects_at(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _objects_at(item)
    elif isinstance(value, dict):
        # A Sequential of Keras 1 has a list for its configuration, and no name.
        if _is_object(value) and (entry_name(value) or isinstance(value["config"], list)):
            yield value
        else:
            for item in [value["config"]] if _is_object(value) else value.values():
                yield from _objects_at(item)


def _calls(entry: Mapping[str, Any], outer: Calls) -> Calls:
    """Return what the calls of `entry` hard-wire; a call that does not say takes it from the calls around it."""
    nodes = entry.get("inbound_nodes")
    own = {hard_wired(node) for node in nodes} if isinstance(nodes, list) and nodes else {None}
    return frozenset(mine if mine is not None else around for mine in own for around in outer)


def _repeats(root: ConfigNode) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the nodes under `root` that stand there for the second time, and where they stood first."""
    nodes = list(root.walk())
    shares = any(node.shared_id is not None for node in nodes)
    firsts: dict[str, ConfigNode] = {}
    repeats: dict[tuple[str, ...], tuple[str, ...]] = {}
    for node in nodes:
        around = repeats.get(node.path[:-1])
        if around is not None:
            repeats[node.path] = (*around, node.name)
        elif shares:
            # The id stands at the later places only: the first is that of equal name, class and configuration.
            first = firsts.setdefault(_identity(node), node)
            if first is not node and node.shared_id is not None:
                repeats[node.path] = first.path
    return repeats


def _with_all_calls(norms: list[NormConfig]) -> Iterator[NormConfig]:
    """Yield `norms`, a shared one with the calls of all its places."""
    places: dict[tuple[str, ...], list[NormConfig]] = {}
    for norm in norms:
        places.setdefault(norm.repeats or norm.path, []).append(norm)
    for norm in norms:
        yield norm.with_calls(places[norm.repeats or norm.path])


def _with_norms(node: ConfigNode, norms: Iterator[NormConfig]) -> ConfigNode:
    """Return the same tree with these batch norms, which come in the order of `walk`."""
    norm = next(norms) if node.norm else None
    return replace(node, norm=norm, children=tuple(_with_norms(child, norms) for child in node.children))


def _identity(node: ConfigNode) -> str:
    return json.dumps([node.name, node.class_name, _without_ids(node.config)], sort_keys=True)


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(item) for key, item in value.items() if key != "shared_object_id"}
    if isinstance(value, list):
        return [_without_ids(item) for item in value]
    return value
