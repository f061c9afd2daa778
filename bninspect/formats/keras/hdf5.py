"""Keras models and weights in HDF5: `.h5` of Keras 1.2 to 3.15, tf.keras of TensorFlow 1.13 to 2.x, and tf_keras.

A whole model has its configuration as JSON in the attribute `model_config` and its weights in `model_weights`; a
weights-only file has the weights at its root and no configuration. Only top-level layers have a group; which of the
weights in it belong to which batch norm, however deep inside, is found out in keras_h5_names.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bninspect.errors import DamagedFile, UnknownFormat
from bninspect.formats.containers.hdf5 import Group, open_file
from bninspect.formats.containers.hdf5_ahead import prepare, prepare_arrays
from bninspect.formats.format import Format
from bninspect.formats.keras import weights as keras_weights
from bninspect.formats.keras.config import parse
from bninspect.formats.keras.hdf5_names import NamedWeights, layer_name, owners, pair, sites
from bninspect.formats.norm_names import distinct
from bninspect.formats.unknown_files import HDF5_SIGNATURE
from bninspect.records import PARAMETERS, Array, BatchNorm, Checkpoint

if TYPE_CHECKING:
    from bninspect.formats.keras.norm_config import NormConfig

NAME = "keras-h5"
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


def _matches(path: Path, head: bytes) -> bool:
    """Claim all HDF5 but the weights of Keras 3, so that a damaged or foreign file is called what it is."""
    return head.startswith(HDF5_SIGNATURE) and not keras_weights.matches(path, head)


def _read(path: Path) -> Checkpoint:
    label = str(path)
    with open_file(path, label) as root:
        text = root.text("model_config")
        weights = _weights(root, whole=text is not None)
        names = weights.texts("layer_names")
        if names is None:
            if text is not None:
                raise DamagedFile(f"{label} is half-written", why="it has a model's configuration, but lists no layers")
            members = ", ".join(root.names()[:5]) or "nothing"
            why = f"it lists no layers (attribute layer_names); it holds {members}"
            raise UnknownFormat(f"{label} is HDF5, but no Keras model", why=why)
        version = root.text("keras_version") or weights.text("keras_version") or ""
        backend = root.text("backend") or weights.text("backend") or ""
        architecture = None if text is None else parse(text, label)
        owned = owners(architecture, names) if architecture else {}
        layers = _distinct(_norms(weights, names, owned, _major(version)))
    notes = [] if architecture else ["weights only: the file states no epsilon, momentum and axis"]
    if any(layer.moving_mean is None or layer.moving_variance is None for layer in layers):
        notes.append("half-written: it lacks the statistics of some batch norms")
    writer = _writer(version, backend)
    code = architecture.code if architecture else ()
    return Checkpoint(label, NAME, writer, layers, tuple(notes), architecture=text, code=code)


FORMAT = Format(NAME, "Keras HDF5, whole models and weights", (".h5", ".hdf5", ".hd5"), _matches, _read)


def _weights(root: Group, *, whole: bool) -> Group:
    """Return the group with the layers: that of Keras' load_model or, without a configuration, of load_weights."""
    inner = root.group("model_weights")
    return inner if inner and (whole or root.texts("layer_names") is None) else root


def _writer(version: str, backend: str) -> str:
    """Return `Keras 2.0.5`, with the backend where it is not TensorFlow."""
    if not version:
        return ""
    return f"Keras {version}" if backend in {"", "tensorflow"} else f"Keras {version} ({backend})"


def _major(version: str) -> int | None:
    match = re.match(r"\d{1,3}(?=\.)", version)
    return int(match[0]) if match else None


def _norms(
    weights: Group, names: tuple[str, ...], owned: dict[str, list[NormConfig]], major: int | None
) -> Iterator[BatchNorm]:
    """Yield all batch norms in the model's order: those of the configuration, and those that it does not mention."""
    firsts: dict[tuple[str, ...], BatchNorm] = {}
    prepare([weights], names)
    groups = {name: weights.group(name) for name in dict.fromkeys((*names, *owned))}
    placed = {name: sites(group.texts("weight_names") or ()) if group else [] for name, group in groups.items()}
    prepare_arrays(
        (group, array)
        for name, group in groups.items()
        for site in placed[name]
        for array in site.weights.values()
        if group and not site.doubled
    )
    for name, group in groups.items():
        found = placed[name]
        matched, unmatched = pair(owned.get(name, []), found)
        for config in unmatched:
            yield _missing(config, _reason(name, group, found), major)
        for site, known in matched:
            if group and known:
                norm = _stored(group, site, known, major)
                first = firsts.get(known.repeats) if known.repeats else None
                if first:
                    _check_same(first, norm, weights.label)
                else:
                    firsts[known.path] = norm
                    yield norm
            elif group:  # of a weights-only file, or within a custom layer
                hidden = layer_name(name, site, alone=len(found) == 1)
                yield BatchNorm(name=hidden, **_parameters(group, site, site.weights))


def _stored(group: Group, site: NamedWeights, config: NormConfig, major: int | None) -> BatchNorm:
    settings = config.settings(major)
    weights = dict(site.weights)
    for role, there in (("gamma", config.scale), ("beta", config.center)):
        if there is False and role in weights:
            if site.prefix:
                why = f"by its configuration {settings['name']} has no {role}, the file holds {weights[role]}"
                raise DamagedFile(f"{group.label} contradicts itself", why=why)
            # Without a layer's name before it, as in Keras 3.0, it is that of another layer in the same nested model.
            del weights[role]
    # Keras 3 does not mark bfloat16 in this format (and cannot load it): the layer's policy tells.
    read = _parameters(group, site, weights, opaque="bfloat16" if config.policy == "bfloat16" else "")
    return BatchNorm(**{**settings, **read, "notes": (*settings["notes"], *read["notes"])})


def _parameters(group: Group, site: NamedWeights, weights: Mapping[str, str], *, opaque: str = "") -> dict[str, Any]:
    """Return the arrays, their type and their place, and a note on those that are listed and not there."""
    arrays = {role: None if site.doubled else group.array(name, opaque=opaque) for role, name in weights.items()}
    kinds = dict.fromkeys(group.dtype(name) for role, name in weights.items() if arrays[role] is not None)
    if not FLOATS.issuperset(kinds):
        why = f"{group.path}: {site.prefix or 'the weights'}: {' and '.join(kinds)}"
        raise DamagedFile(f"{group.label} holds a batch norm that is not of floating-point numbers", why=why)
    lost = [name for role, name in weights.items() if arrays[role] is None]
    folder = next(iter(weights.values())).rpartition("/")[0]
    return {
        **dict.fromkeys(PARAMETERS),
        **arrays,
        "dtype": "+".join(kinds),
        "location": f"{group.path}/{folder}".strip("/"),
        "notes": (f"half-written: {', '.join(lost)} listed and not stored",) if lost else (),
    }


def _missing(config: NormConfig, reason: str, major: int | None) -> BatchNorm:
    """Return a batch norm of which the file has the configuration alone."""
    settings = {**dict.fromkeys(PARAMETERS), **config.settings(major), "dtype": ""}
    return BatchNorm(**{**settings, "notes": (*settings["notes"], f"half-written: {reason}")})


def _reason(name: str, group: Group | None, found: Sequence[NamedWeights]) -> str:
    if group is None:
        return f"the file has no weights of {name!r}"
    if any(site.doubled for site in found):
        return f"several weights of {name!r} go by one name, which early versions of Keras 3 cannot save"
    return f"none of the weights of {name!r} are its own"


def _check_same(first: BatchNorm, again: BatchNorm, label: str) -> None:
    """Raise DamagedFile if a shared layer, which is stored with each model that it is in, differs between them."""
    for role in PARAMETERS:
        one, other = getattr(first, role), getattr(again, role)
        same = one is other is None or (one is not None and other is not None and _identical(one, other))
        if not same:
            why = f"{first.name} and {again.name} are one layer, and their {role} differ"
            raise DamagedFile(f"{label} contradicts itself", why=why)


def _identical(one: Array, other: Array) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def _distinct(norms: Iterator[BatchNorm]) -> tuple[BatchNorm, ...]:
    layers = list(norms)
    names = distinct((layer.name for layer in layers), "#")
    pairs = zip(layers, names, strict=True)
    return tuple(layer if layer.name == name else replace(layer, name=name) for layer, name in pairs)
