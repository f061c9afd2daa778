"""Whole pickled modules, `torch.save(model, path)`: they hold epsilon, momentum and mode beside the parameters.

What loading would make of them is code, which is not there. Here a module is a record with the name of its class and
its attributes (torch/nn/modules/module.py): `_modules`, `_parameters`, `_buffers`, `training`, and its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bninspect.formats.encodings.pickle_opcodes import Instance
from bninspect.formats.torch import running_statistics
from bninspect.formats.torch.objects import PickledTensor
from bninspect.records import Array, BatchNorm, Statistics
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.torch.storage import Storages

_TORCH = ("torch.nn.", "torch.ao.nn.", "torchvision.ops.misc.")
_CALLED = re.compile(r"(?i)batch_?(re)?norm")
_PROVING = ("num_features", "eps", "momentum", "affine", "track_running_stats")
"""Attributes that torch's batch norms have, and what is derived from them. Others keep running statistics too, and
compute something else with them: in-place activated batch norm takes the absolute value of gamma."""
_FROZEN = ("torchvision.ops.misc.FrozenBatchNorm2d", "detectron2.layers.batch_norm.FrozenBatchNorm2d")
"""Batch norms whose four arrays never change, and that have no further attributes than epsilon."""


def is_module(value: object) -> bool:
    """Return whether a record is of a module."""
    return isinstance(value, Instance) and isinstance(value.state.get("_modules"), dict)


def is_norm(module: Instance) -> bool:
    """Return whether a module is a batch norm, or says of itself what only a batch norm says."""
    buffers = _held(module, "_buffers")
    if "running_mean" not in buffers or "running_var" not in buffers:
        return False
    return isinstance(buffers["running_mean"], PickledTensor) or "BatchNorm" in _class(module)


def is_unread(module: Instance) -> bool:
    """Return whether a module is meant to be a batch norm, by its statistics or its class, and none that is read.

    Batch renormalisation keeps a deviation in the place of the variance; code of one's own has names of its own.
    """
    tensors = {name for name, value in _held(module, "_buffers").items() if isinstance(value, PickledTensor)}
    if is_norm(module):
        return False
    children = (part for part in _held(module, "_modules").values() if is_module(part))
    named = _CALLED.search(_class(module)) is not None and not any(map(is_norm, children))
    return named or bool({"running_mean", "running_var"} & tensors)


def norm_of(module: Instance, path: str, storages: Storages) -> BatchNorm:
    """Return the layer that a module of which `is_norm` is true makes.

    Raises:
        DamagedFile, UnreadableFile: as `Storages.array`.
    """
    tensors = {
        name: value
        for name, value in (*_held(module, "_parameters").items(), *_held(module, "_buffers").items())
        if isinstance(name, str) and isinstance(value, PickledTensor)
    }

    def numbers(name: str) -> tuple[Array, str]:
        return storages.array(tensors[name], f"{path}.{name}"), tensors[name].storage.dtype

    known = {field: numbers(name) for field, name in running_statistics.FIELDS.items() if name in tensors}
    arrays: dict[str, Any] = {field: array for field, (array, _) in known.items()}
    layer = BatchNorm(
        name=path or "batch_norm",
        **arrays,
        axis=running_statistics.AXIS,
        dtype="+".join(dict.fromkeys(dtype for _, dtype in known.values())) or "float32",
        location=path,
        class_name=_class(module),
        statistics=Statistics.MOVING if "running_mean" in tensors else Statistics.BATCH,
    )
    settings = _settings(module)
    return replace(layer, **{**settings, "notes": (*settings["notes"], *_mode(module))})


def _settings(module: Instance) -> dict[str, Any]:
    """Return epsilon and momentum, where the class is one whose attributes mean what they mean in torch."""
    state, name = module.state, module.class_name
    proved = all(attribute in state for attribute in _PROVING) or (
        # Before torch 0.4 every batch norm tracked its statistics.
        name.startswith(_TORCH) and all(attribute in state for attribute in _PROVING[:-1])
    )
    epsilon, momentum = (running_statistics.number(state.get(name)) for name in ("eps", "momentum"))
    if not proved and name not in _FROZEN:
        return {"notes": (f"{printable(name)} is not a class of torch: what its epsilon means is not known",)}
    notes = () if name.startswith(_TORCH) else (f"{printable(name)} has the attributes of torch's batch norm",)
    return {
        "epsilon": epsilon,
        "epsilon_source": None if epsilon is None else "file",
        # torch's momentum is the weight of the new, that of every other framework the weight of the old.
        "momentum": None if momentum is None else 1.0 - momentum,
        "scale": state.get("affine", True) is True,
        "center": state.get("affine", True) is True,
        "notes": notes,
    }


def _mode(module: Instance) -> tuple[str, ...]:
    """Return a note on a module that was saved in training mode.

    What it normalises by once it runs is decided by whoever loads it: `model.eval()`. Nothing here is a graph.
    """
    trains = module.state.get("training") is True and module.class_name not in _FROZEN
    return ("saved in training mode: it needs model.eval() to predict",) if trains else ()


def _class(module: Instance) -> str:
    return module.class_name.rpartition(".")[2]


def _held(module: Instance, name: str) -> Mapping[Any, Any]:
    found = module.state.get(name)
    return found if isinstance(found, dict) else {}
