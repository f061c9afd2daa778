"""Layers of which only variables are known: those of a bare checkpoint, and those that a graph does not use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bninspect.formats.encodings.protobuf import Message
from bninspect.formats.stored_numbers import read_only
from bninspect.formats.tensorflow import object_graph, scopes, tensor
from bninspect.formats.tensorflow.keras_metadata import KerasNorm
from bninspect.formats.tensorflow.variables import Store, Variables
from bninspect.records import PARAMETERS, Array, BatchNorm
from bninspect.safe_text import printable

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def unused(
    variables: Variables,
    keras: Sequence[KerasNorm],
    used: frozenset[str],
    signature: str,
) -> list[BatchNorm]:
    """Return the layers whose statistics are stored and of which no signature makes use.

    Args:
        variables: of the graph.
        keras: what Keras 2 says of its layers.
        used: keys of the checkpoint that belong to the layers in use.
        signature: which they are in use by; empty if the graph has none.

    Raises:
        UnreadableFile: a value is damaged.
    """
    store = variables.store
    if store is None:
        return []
    described = [(norm.layer.name, norm.keys) for norm in keras]
    restored = {name: one.key for name, one in variables.restored.items()}
    titled = [
        (title, {name: restored[node] for name, node in parts.items()})
        for title, parts in scopes.norms(restored).items()
    ]
    settings = {norm.layer.name: norm.layer for norm in keras}
    rest = []
    for title, keys in [*described, *norms(store), *titled]:
        statistics = {keys[name] for name in ("moving_mean", "moving_variance") if name in keys}
        if statistics & used:
            continue
        used = used | statistics
        layer = of_keys(store, keys, settings.get(title) or BatchNorm(title))
        note = (
            f"signature {printable(signature)!r} does not use it" if signature else "no batch norm of the graph uses it"
        )
        rest.append(replace(layer, notes=(*layer.notes, note)))
    return rest


def norms(store: Store) -> list[tuple[str, Mapping[str, str]]]:
    """Return name and keys of every batch norm that a checkpoint itself tells of: by its objects, or by its names."""
    if object_graph.KEY in store.entries:
        objects = object_graph.objects(Message(b"".join(store.strings(object_graph.KEY)[:1])))
        found = [("/".join(path), keys) for path, keys in object_graph.norms(objects)]
        return sorted(
            ((title or scopes.NAMELESS, keys) for title, keys in found), key=lambda one: scopes.natural(one[0])
        )
    known = [name for name, entry in store.entries.items() if tensor.float_name(entry.dtype)]
    return list(scopes.norms(known).items())


def of_keys(store: Store, keys: Mapping[str, str], stated: BatchNorm) -> BatchNorm:
    """Return a layer with the variables that have these keys, by standard name, and the settings that are `stated`.

    Raises:
        UnreadableFile: a value is damaged.
    """
    ordered = {name: keys[name] for name in PARAMETERS if name in keys}
    arrays: dict[str, Any] = {name: per_channel(store.read(key)) for name, key in ordered.items()}
    types = {tensor.float_name(store.entries[key].dtype) for key in ordered.values()}
    dtype = "+".join(sorted(types - {""})) or "float32"
    return replace(stated, **arrays, dtype=dtype, location=location(ordered))


def per_channel(values: Array) -> Array:
    """Return a parameter flat, unless it runs along several axes."""
    flat = values.reshape(-1) if sum(length != 1 for length in values.shape) < 2 else values
    return read_only(flat)


def location(keys: Mapping[str, str]) -> str:
    """Return where in the file a layer's values are, by their keys."""
    return scope(keys.values()) or ", ".join(key.removesuffix(_VALUE) for key in keys.values())


def scope(keys: Iterable[str]) -> str:
    """Return the scope that keys of a checkpoint have in common; `variables` of `variables/7` is that of all layers."""
    short = [key.removesuffix(_VALUE) for key in keys]
    return "" if any(key.rpartition("/")[2].isdecimal() for key in short) else scopes.common_scope(short)
