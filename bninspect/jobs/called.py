"""What lies in a temporary place, called in results and errors as whoever asked for it calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bninspect.errors import BninspectError
from bninspect.records import codec

R = TypeVar("R")
T = TypeVar("T", bound=BninspectError)


def result(found: R, names: Mapping[str, str]) -> R:
    """Return a record with names in the place of paths."""
    if not names:
        return found
    return codec.decode(type(found), _replaced(codec.encode(found), lambda text: _named(text, names)))


def error(found: T, names: Mapping[str, str]) -> T:
    """Return an error with names in the place of paths."""
    what, why, hint = (_named(text, names) for text in (found.what, found.why, found.hint))
    return type(found)(what, why=why, hint=hint)


def _named(text: str, names: Mapping[str, str]) -> str:
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def _replaced(value: Any, replace_in: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return replace_in(value)
    if isinstance(value, dict):
        return {key: _replaced(entry, replace_in) for key, entry in value.items()}
    return [_replaced(entry, replace_in) for entry in value] if isinstance(value, (list, tuple)) else value
