"""What the names in PyTorch's pickles stand for. It imports nothing and calls only what is here.

Every other name stands for itself, and what a pickle would do with it becomes an inert record (`pickle_opcodes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bninspect.formats.encodings.pickle_opcodes import Global, Instance, plain_key

STORAGES: Mapping[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
"""Types of storage whose bytes are numbers, and the type of those."""
WIDTHS: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    **dict.fromkeys(("QUInt8Storage", "QInt8Storage", "QUInt4x2Storage", "QUInt2x4Storage", "UntypedStorage"), 1),
    "QInt32Storage": 4,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}
"""Bytes of a number, by its type, or by the storage of a type of which no batch norm has parameters."""


@dataclass(frozen=True, eq=False)
class Storage:
    """A reference to numbers in another part of the file."""

    dtype: str
    """Type of the numbers, or of the storage, where no batch norm has parameters of it: complex, quantised."""
    key: str
    count: int
    """Numbers in it, as the pickle says; from `start` on, if that is not 0."""
    start: int = 0
    """Place of the first number: before torch 0.4 a storage could be a part of another one."""

    @property
    def width(self) -> int:
        """Return the bytes of a number; 0 if its type is unknown."""
        return WIDTHS.get(self.dtype, 0)


@dataclass(frozen=True, eq=False)
class PickledTensor:
    """A tensor as the pickle describes it: where in which storage its numbers are."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def persistent(reference: Any) -> Any:
    """Return what a persistent id stands for: a storage or, in a module before torch 1.6, a class with its source.

    They are `('storage', type, key, device, count)`, before 1.6 with the view behind (torch/serialization.py), and
    `('module', class, file, source)`, of which the class is a name here and the source a text that nobody reads.
    """
    if not isinstance(reference, tuple) or len(reference) < 4:
        raise ValueError("a reference to no storage")
    kind, of, key, _, *rest = reference
    if kind == "module" and isinstance(of, Global):
        return of
    count, start = (rest[0] if rest else -1), 0
    if kind != "storage" or not isinstance(of, Global) or not _is_place(count) or not isinstance(key, str):
        raise ValueError("a reference to no storage")
    if len(rest) > 1 and rest[1] is not None:
        _, start, count = rest[1]
        if not _is_place(start) or not _is_place(count):
            raise ValueError("a view of no storage")
    kind = of.name.rpartition(".")[2]
    return Storage(STORAGES.get(kind, kind), key, count, start)


def lookup(name: str) -> Global:
    """Return what a name in a pickle stands for."""
    return Global(name, _CALLED.get(name))


def _is_place(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _tensor(of: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> PickledTensor:
    """Stand for torch._utils._rebuild_tensor_v2; what is behind the strides are gradients, hooks and metadata."""
    if not isinstance(of, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise TypeError("a tensor without storage, shape or strides")
    if len(shape) != len(strides) or not all(_is_place(number) for number in (offset, *shape, *strides)):
        raise ValueError("a tensor of impossible shape or strides")
    if len(shape) > _MOST_AXES:
        raise ValueError(f"a tensor of {len(shape)} axes")
    return PickledTensor(of, offset, shape, strides)


_MOST_AXES = 32
"""Of torch's tensors 64, of NumPy's arrays 32 before version 2."""


def _typed(of: Any, offset: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, dtype: Any, *_: Any) -> Any:
    """Stand for torch._utils._rebuild_tensor_v3, whose storage has no type: its numbers are counted in bytes."""
    name = dtype.name.rpartition(".")[2] if isinstance(dtype, Global) else ""
    if not isinstance(of, Storage):
        raise TypeError("a tensor without storage")
    return _tensor(replace(of, dtype=name, count=of.count // WIDTHS.get(name, 1)), offset, shape, strides)


def _first(value: Any, *_rest: Any) -> Any:
    return value


def _of_type(make: Any, _type: Any, arguments: Any, *_state: Any) -> Any:
    """Stand for torch._tensor._rebuild_from_type_v2: a tensor with attributes, or of a class of Python's."""
    known = make.make if isinstance(make, Global) else None
    return known(*arguments) if known is not None else Instance("", (make, arguments))


def _reconstructed(of: Any, *_base: Any) -> Any:
    """Stand for copyreg._reconstructor and copyreg.__newobj__: how protocols 0 and 1 say that an object is made."""
    return Instance(of.name if isinstance(of, Global) else "")


def _mapping(items: Any = ()) -> dict[Any, Any]:
    pairs = items.items() if isinstance(items, dict) else items
    return {plain_key(key): value for key, value in pairs}


_CALLED: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda _make=None, items=(): _mapping(items),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    # Before torch 0.4 a parameter was an object with a tensor.
    "torch.nn.parameter.Parameter": _first,
    "torch.autograd.variable.Variable": _first,
    "torch.Size": _first,
    **dict.fromkeys(("copyreg._reconstructor", "copy_reg._reconstructor"), _reconstructed),
    **dict.fromkeys(("copyreg.__newobj__", "copy_reg.__newobj__"), _reconstructed),
    # How TorchScript writes lists whose type is known.
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}
