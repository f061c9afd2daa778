"""TorchScript (`torch.jit.save`): the parameters from its pickle, the batch norms from the text of its classes.

A module is an object of a class whose source lies in the zip as text (`code/...py`). What that calls tells which
numbers are normalised with which epsilon, in which mode: of a module, of a function that was given parameters, of
constants that freezing left. A module with running statistics that nothing calls is a layer as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bninspect.formats.encodings import pickle_opcodes
from bninspect.formats.encodings.pickle_opcodes import Instance
from bninspect.formats.torch import objects, running_statistics
from bninspect.formats.torch.distinct_layers import distinct
from bninspect.formats.torch.norm_operators import OPERATORS
from bninspect.formats.torch.objects import PickledTensor
from bninspect.formats.torch.running_statistics import FIELDS
from bninspect.formats.torch.script_calls import ScriptCall, ScriptFollower
from bninspect.formats.torch.script_pieces import ScriptConstant
from bninspect.formats.torch.script_sources import ScriptSources, foreign_classes, read_sources
from bninspect.formats.torch.state_dict import PICKLE_BYTES
from bninspect.formats.torch.storage import Storages, in_zip
from bninspect.records import Array, BatchNorm, Checkpoint, Statistics, Unread

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive

NAME = "torchscript"


@dataclass(frozen=True, eq=False)
class _ScriptPlace:
    """A tensor, what the file calls it, and where its numbers are."""

    name: str
    tensor: PickledTensor
    storages: Storages


def read(archive: Archive, folder: str) -> Checkpoint:
    """Return the batch norms that the methods of a TorchScript file call, and those among its modules.

    Raises:
        UnsafeFile: something is too large.
        DamagedFile, UnreadableFile: as `pickle_opcodes.interpret`, `read_sources` and `Storages.array`.
    """
    content = _pickle(archive, f"{folder}data.pkl")
    sources = read_sources(archive, f"{folder}code/")
    modules = dict(_modules(content))
    places = {id(place.tensor): place for place in _tensors(archive, folder, modules)}
    constants = _constants(archive, folder)
    follower = ScriptFollower(sources, archive.label)
    if isinstance(content, Instance):
        follower.follow(content)
    layers: list[BatchNorm] = []
    unread: dict[tuple[str, str], int] = {}
    paths = {id(module): path for path, module in modules.items()}
    for call in follower.calls:
        found = _norm(call, places, constants, paths)
        if isinstance(found, BatchNorm):
            layers.append(distinct(found, layers))
        elif found:
            unread[call.where, found] = unread.get((call.where, found), 0) + 1
    for where, root in follower.dividing():
        unread[where, root.reason] = unread.get((where, root.reason), 0) + 1
    for path, module in modules.items():
        tensors = [name for name, value in module.state.items() if isinstance(value, PickledTensor)]
        for calls in running_statistics.unread(tensors):
            unread[path or "the root", calls.reason] = calls.count
    called = {layer.location for layer in layers}
    layers += [
        layer
        for path, module in modules.items()
        for layer in _uncalled(path, module, sources, places)
        if layer.location not in called
    ]
    order = {path: place for place, path in enumerate(modules)}
    named: dict[str, BatchNorm] = {}
    for layer in layers:
        named.setdefault(layer.name, layer)
    return Checkpoint(
        archive.label,
        NAME,
        "TorchScript",
        tuple(sorted(named.values(), key=lambda layer: order.get(layer.location, len(order)))),
        code=(*sources.code, *foreign_classes(modules)),
        unread=tuple(Unread(where, count, reason) for (where, reason), count in unread.items()),
    )


def _pickle(archive: Archive, name: str) -> Any:
    data = archive.read(name, PICKLE_BYTES)
    return pickle_opcodes.interpret(data, archive.label, objects.lookup, objects.persistent)


def _modules(root: object) -> Iterator[tuple[str, Instance]]:
    """Yield every object once, in the order of the file, by the attributes that lead to it."""
    seen: set[int] = set()
    stack: list[tuple[str, object]] = [("", root)]
    while stack:
        path, value = stack.pop()
        if not isinstance(value, Instance) or id(value) in seen:
            continue
        seen.add(id(value))
        yield path, value
        children = [(f"{path}.{name}" if path else str(name), child) for name, child in value.state.items()]
        stack.extend(reversed(children))


def _tensors(archive: Archive, folder: str, modules: Mapping[str, Instance]) -> Iterator[_ScriptPlace]:
    storages = in_zip(archive, folder, "data/")
    seen: set[int] = set()
    for path, module in modules.items():
        for name, value in module.state.items():
            if isinstance(value, PickledTensor) and id(value) not in seen:
                seen.add(id(value))
                yield _ScriptPlace(f"{path}.{name}" if path else str(name), value, storages)


def _constants(archive: Archive, folder: str) -> Mapping[str, _ScriptPlace]:
    """Return the constants of modules that were frozen, by the names that the source has for them."""
    if f"{folder}constants.pkl" not in archive.names():
        return {}
    found = _pickle(archive, f"{folder}constants.pkl")
    storages = in_zip(archive, folder, "constants/")
    return {
        f"c{place}": _ScriptPlace(f"CONSTANTS.c{place}", value, storages)
        for place, value in enumerate(found if isinstance(found, (list, tuple)) else ())
        if isinstance(value, PickledTensor)
    }


def _norm(
    call: ScriptCall,
    places: Mapping[int, _ScriptPlace],
    constants: Mapping[str, _ScriptPlace],
    paths: Mapping[int, str],
) -> BatchNorm | str:
    """Return the layer that a call is, why it is not read, or "" if it is none."""
    operator = OPERATORS[call.operator]
    given = {field: call.arguments.get(name) for field, name in FIELDS.items()}
    stored = {field: place for field, value in given.items() if (place := _place(value, places, constants))}
    computed = [field for field, value in given.items() if value is not None and field not in stored]
    moments = call.arguments.get(operator.training, False) if operator.training else False
    if call.operator == "instance_norm" and given["moving_mean"] is None:
        return ""  # it normalises each sample by itself, and has nothing to do it with
    if not isinstance(moments, bool):
        return "the mode is decided as the model runs"
    settings = (call.arguments.get(name) for name in (operator.epsilon, operator.momentum))
    epsilon, momentum = (running_statistics.number(value) for value in settings)
    arrays: dict[str, Any] = {field: place.storages.array(place.tensor, place.name) for field, place in stored.items()}
    first = next(reversed(stored.values()), None)
    path = "" if first is None else first.name if first.name.startswith("CONSTANTS.") else first.name.rpartition(".")[0]
    statistics = operator.moments if moments or given["moving_mean"] is None else operator.statistics
    return BatchNorm(
        name=path or paths.get(id(call.module)) or "batch_norm",
        **arrays,
        epsilon=epsilon,
        epsilon_source=None if epsilon is None else "file",
        # torch's momentum is the weight of the new, that of every other framework the weight of the old.
        momentum=None if momentum is None else 1.0 - momentum,
        axis=running_statistics.AXIS,
        scale=given["gamma"] is not None,
        center=given["beta"] is not None,
        dtype="+".join(dict.fromkeys(place.tensor.storage.dtype for place in stored.values())) or "float32",
        # Of one without parameters nothing else tells which call it is.
        location=path or f"{paths.get(id(call.module), '')}:{call.line}",
        class_name=call.operator,
        statistics=Statistics.COMPUTED if computed and statistics is Statistics.MOVING else statistics,
        notes=running_statistics.computed_note(computed),
    )


def _place(
    value: Any, places: Mapping[int, _ScriptPlace], constants: Mapping[str, _ScriptPlace]
) -> _ScriptPlace | None:
    return constants.get(value.name) if isinstance(value, ScriptConstant) else places.get(id(value))


def _uncalled(
    path: str, module: Instance, sources: ScriptSources, places: Mapping[int, _ScriptPlace]
) -> Iterator[BatchNorm]:
    """Yield the batch norm that a module is by its names, with what its class says of it."""
    tensors = {name: value for name, value in module.state.items() if isinstance(value, PickledTensor)}

    def numbers(name: str) -> tuple[Array, str]:
        tensor = tensors[name]
        return places[id(tensor)].storages.array(tensor, f"{path}.{name}"), tensor.storage.dtype

    known = sources.classes.get(module.class_name)
    constants = known.constants if known is not None else {}
    epsilon, momentum = (running_statistics.number(constants.get(name)) for name in ("eps", "momentum"))
    for layer in running_statistics.layers(tensors, numbers):
        yield replace(
            layer,
            name=path or layer.name,
            location=path,
            epsilon=epsilon,
            epsilon_source=None if epsilon is None else "file",
            momentum=None if momentum is None else 1.0 - momentum,
            class_name=module.class_name.rpartition(".")[2],
            statistics=Statistics.BATCH if module.state.get("training") is True else Statistics.MOVING,
        )
