"""TorchScript (`torch.jit.save`): the parameters from its pickle, epsilon from the text of its classes.

A module is an object of a class whose source lies in the zip as text (`code/...py`). There epsilon is an attribute
`eps : Final[float] = 0.001` of a scripted module, or a number in the call of `torch.batch_norm` of a traced one. That
text is searched, never compiled. An epsilon that is neither stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bninspect.formats.encodings import pickle_opcodes
from bninspect.formats.encodings.pickle_opcodes import Instance
from bninspect.formats.torch import objects, running_statistics
from bninspect.formats.torch.objects import PickledTensor
from bninspect.formats.torch.state_dict import PICKLE_BYTES
from bninspect.formats.torch.storage import Storages, in_zip
from bninspect.records import BatchNorm, Checkpoint, Statistics
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive
    from bninspect.records import Array

NAME = "torchscript"
CODE_BYTES = 64 << 20

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
_FINAL = re.compile(rf"^  eps : Final\[float\] = ({_NUMBER})$", re.MULTILINE)
_MOMENTUM = re.compile(rf"^  momentum : Final\[float\] = ({_NUMBER})$", re.MULTILINE)
_CALL = re.compile(rf"torch\.batch_norm\([^()]*?, (True|False), ({_NUMBER}), ({_NUMBER}), (?:True|False)\)")
_NAME = re.compile(r"\b(?:torch|ops\.\w+)\.(\w+)\(")

_PURE = """
_convolution abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d add add_ addmm append arange argmax
avg_pool1d avg_pool2d avg_pool3d batch_norm bmm cat chunk clamp clamp_max clamp_min contiguous conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d dim div dropout elu embedding eq exp expand flatten floor_divide
floordiv format ge gelu gt group_norm hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ instance_norm
layer_norm le leaky_relu leaky_relu_ len linear log log_softmax lt matmul max max_pool1d max_pool2d max_pool3d mean
min mul mul_ ne neg ones pad permute pow prelu RaiseException relu relu6 relu6_ relu_ remainder repeat reshape rsqrt
rsub select sigmoid sigmoid_ silu silu_ size slice softmax softplus split sqrt squeeze stack sub sum tanh tanh_
transpose unchecked_cast unsqueeze unsqueeze_ upsample_bilinear2d upsample_nearest2d view where zeros
__contains__ __getitem__ __is__ __isnot__ __not__ annotate uninitialized NumToTensor
"""
PURE = frozenset(_PURE.split())
"""Operations that compute and do nothing else. What is not here may read files, print or call back into Python."""


@dataclass(frozen=True)
class _Class:
    epsilon: float | None
    momentum: float | None
    trains: bool | None


def read(archive: Archive, folder: str) -> Checkpoint:
    """Return the batch norms among the modules of a TorchScript file. Raises as `state_dict.read`."""
    content = pickle_opcodes.interpret(
        archive.read(f"{folder}data.pkl", PICKLE_BYTES), archive.label, objects.lookup, objects.persistent
    )
    sources = _sources(archive, f"{folder}code/")
    storages = in_zip(archive, folder, "data/")
    layers = tuple(
        layer for path, module in _modules(content, "", set()) for layer in _layer(path, module, sources, storages)
    )
    notes = []
    inlined = sum(len(re.findall(r"torch\.batch_norm\([^()]*CONSTANTS", text)) for text in sources.values())
    if inlined:
        notes.append(f"{inlined} calls of torch.batch_norm on constants of a frozen module, which are not read")
    return Checkpoint(archive.label, NAME, "TorchScript", layers, tuple(notes), code=_impure(sources))


def _sources(archive: Archive, folder: str) -> dict[str, str]:
    """Return the text of every module of source code, by its dotted name."""
    names = [name for name in archive.names() if name.startswith(folder) and name.endswith(".py")]
    return {
        name.removeprefix(folder).removesuffix(".py").replace("/", "."): archive.read(name, CODE_BYTES).decode(
            errors="replace"
        )
        for name in names
    }


def _modules(value: object, path: str, seen: set[int]) -> Iterator[tuple[str, Instance]]:
    """Yield every object once, in the order of the file, by the attributes that lead to it."""
    stack = [(path, value)]
    while stack:
        path, value = stack.pop()
        if not isinstance(value, Instance) or id(value) in seen:
            continue
        seen.add(id(value))
        yield path, value
        children = [(f"{path}.{name}" if path else str(name), child) for name, child in value.state.items()]
        stack.extend(reversed(children))


def _layer(path: str, module: Instance, sources: dict[str, str], storages: Storages) -> Iterator[BatchNorm]:
    tensors = {name: value for name, value in module.state.items() if isinstance(value, PickledTensor)}

    def numbers(name: str) -> tuple[Array, str]:
        return storages.array(tensors[name], f"{path}.{name}"), tensors[name].storage.dtype

    for layer in running_statistics.layers(tensors, numbers):
        known = _described(module.class_name, sources)
        # A scripted module asks its attribute; a traced one has the answer in the call.
        trains = module.state.get("training") is True if known.trains is None else known.trains
        yield replace(
            layer,
            name=path or layer.name,
            location=path,
            epsilon=known.epsilon,
            epsilon_source=None if known.epsilon is None else "file",
            momentum=None if known.momentum is None else 1.0 - known.momentum,
            class_name=module.class_name.rpartition(".")[2],
            statistics=Statistics.BATCH if trains else Statistics.MOVING,
        )


def _described(class_name: str, sources: dict[str, str]) -> _Class:
    """Return what the source of a class says; nothing where it says two different things."""
    module, _, name = class_name.rpartition(".")
    text = sources.get(module, "")
    begins = [(match.start(), match[1]) for match in _CLASS.finditer(text)]
    starts = [*(start for start, _ in begins), len(text)]
    bodies = [text[start : starts[place + 1]] for place, (start, own) in enumerate(begins) if own == name]
    if len(bodies) != 1:
        return _Class(None, None, None)
    calls = set(_CALL.findall(bodies[0]))
    if len(calls) == 1:
        ((trains, momentum, epsilon),) = calls
        return _Class(float(epsilon), float(momentum), trains == "True")
    epsilons, momenta = _FINAL.findall(bodies[0]), _MOMENTUM.findall(bodies[0])
    return _Class(
        float(epsilons[0]) if len(epsilons) == 1 and not calls else None,
        float(momenta[0]) if len(momenta) == 1 else None,
        None,
    )


def _impure(sources: dict[str, str]) -> tuple[str, ...]:
    """Return the operations that are not known to do nothing but compute."""
    called = dict.fromkeys(name for text in sources.values() for name in _NAME.findall(text))
    return tuple(f"operation {printable(name)}" for name in called if name not in PURE)
