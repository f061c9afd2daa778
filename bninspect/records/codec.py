"""Records to values of JSON and back, for reports on disk and for messages between our processes.

The types of the records' fields are the schema, so nothing is ever unpickled: a worker that a hostile file has taken
over can send wrong numbers, but no code. msgspec converts and checks; texts are written and read by `json`, since
names in files may hold lone surrogates, which msgspec does not let through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Arrays = list[np.ndarray[Any, Any]]


def encode(value: Any, arrays: Arrays | None = None) -> Any:
    """Return `value` as what `json.dumps` takes. Numbers that are not finite become None.

    Arrays are appended to `arrays` and referred to by their place; without that list an array raises TypeError.
    """
    import msgspec

    return _finite(msgspec.to_builtins(value, str_keys=True, enc_hook=partial(_plain, arrays)))


def decode(kind: type[T], data: Any, arrays: Arrays | None = None) -> T:
    """Return `data`, as `encode` made it, as a `kind`.

    Raises ValueError, with the path of what does not fit the record: a wrong type, or a field that it does not have.
    """
    import msgspec

    try:
        result = msgspec.convert(data, kind, dec_hook=partial(_array, arrays or []))
        _refuse_unknown(data, result, "$")
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"not a {getattr(kind, '__name__', kind)}: {error}") from error
    return result


def _plain(arrays: Arrays | None, value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray) and arrays is not None:
        arrays.append(value)
        return {"array": len(arrays) - 1}
    raise TypeError(f"{type(value).__name__} has no form in a report")


def _array(arrays: Arrays, _: type, data: Any) -> Any:
    try:
        return arrays[data["array"]]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("an array that is not there") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value


def _refuse_unknown(data: Any, made: Any, path: str) -> None:
    """Raise ValueError if `data` says more than what was made of it holds: msgspec passes over unknown fields."""
    if not isinstance(data, (dict, list, tuple)) or made is data:
        return
    if is_dataclass(made):
        if unknown := data.keys() - {field.name for field in fields(made)}:  # type: ignore[union-attr]
            raise ValueError(f"unknown `{min(unknown)}` - at `{path}`")
        for name, entry in data.items():  # type: ignore[union-attr]
            _refuse_unknown(entry, getattr(made, name), f"{path}.{name}")
    elif isinstance(made, dict):
        for key, entry in data.items():  # type: ignore[union-attr]
            _refuse_unknown(entry, made[key], f"{path}[...]")
    elif isinstance(made, tuple):
        for index, pair in enumerate(zip(data, made, strict=True)):
            _refuse_unknown(*pair, f"{path}[{index}]")
