"""What the names in PyTorch's pickles stand for: the whole list. It imports nothing and calls only what is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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

UNREAD = (
    *("QUInt8Storage", "QInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage"),
    *("ComplexFloatStorage", "ComplexDoubleStorage"),
)
"""Types of storage that are let pass unread: no batch norm has parameters of these."""


@dataclass(frozen=True)
class Storage:
    """A reference to numbers in another member of the zip."""

    dtype: str
    key: str
    count: int
    """Numbers in it, as the pickle says."""


@dataclass(frozen=True)
class PickledTensor:
    """A tensor as the pickle describes it: where in which storage its numbers are."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def storage(reference: Any) -> Storage:
    """Return what the persistent id `('storage', type, key, device, count)` stands for."""
    kind, of, key, _device, count = reference
    if kind != "storage" or not isinstance(of, Global) or type(count) is not int or not isinstance(key, str):
        raise ValueError("a reference to no storage")
    return Storage(STORAGES.get(of.name.rpartition(".")[2], "unread"), key, count)


def _tensor(of: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> PickledTensor:
    """Stand for torch._utils._rebuild_tensor_v2; what is behind the strides are gradients, hooks and metadata."""
    if not isinstance(of, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise TypeError("a tensor without storage, shape or strides")
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor of impossible shape or strides")
    return PickledTensor(of, offset, shape, strides)


def _first(value: Any, *_rest: Any) -> Any:
    return value


def _unread(*_arguments: Any) -> None:
    """Stand for what no batch norm is made of."""


def _mapping(items: Any = ()) -> dict[Any, Any]:
    return {plain_key(key): value for key, value in (items.items() if isinstance(items, dict) else items)}


_BESIDE = """
collections.Counter _codecs.encode builtins.set builtins.bytearray builtins.complex __builtin__.set
__builtin__.bytearray __builtin__.complex torch.device torch.serialization._get_layout
torch._utils._rebuild_tensor_v3 torch._utils._rebuild_sparse_tensor torch._utils._rebuild_qtensor
torch._utils._rebuild_meta_tensor_no_storage
"""
"""What a training checkpoint may hold beside parameters and nothing here needs: with what follows, what torch.load
takes with weights_only=True (torch/_weights_only_unpickler.py)."""
_CALLED: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(_BESIDE.split(), _unread),
    "collections.OrderedDict": _mapping,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.Size": _first,
    # How TorchScript writes lists whose type is known.
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}
_DTYPES = """
float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex32 complex64 complex128
float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 qint8 quint8 qint32
per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric per_channel_affine_float_qparams
"""
_MENTIONED = {
    *(f"torch.{name}" for name in (*STORAGES, *UNREAD, *_DTYPES.split())),
    *(f"torch.storage.{name}" for name in ("UntypedStorage", "TypedStorage")),
}


def of_state_dict(name: str) -> Global | None:
    """Return what a name in a state_dict stands for; None for everything else in the world."""
    if name in _CALLED:
        return Global(name, _CALLED[name])
    return Global(name) if name in _MENTIONED else None


def of_script(name: str) -> Global | None:
    """Return what a name in TorchScript stands for: as in a state_dict, or a class that the file itself describes."""
    if name.startswith("__torch__."):
        return Global(name, partial(_instance, name))
    return of_state_dict(name)


def _instance(class_name: str, *_arguments: Any) -> Instance:
    return Instance(class_name, {})
