"""Configuration files: the nearest `bninspect.toml`, or `pyproject.toml` with a table `[tool.bninspect]`.

A configuration file is text from a stranger as soon as the working directory is a stranger's checkout. So it can
change a verdict, which the report then says, but it cannot have code run or files written.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from bninspect.errors import UsageError
from bninspect.safe_text import nearest, printable
from bninspect.settings import IgnoreRule, ToleranceRule

OWN = "bninspect.toml"
SHARED = "pyproject.toml"
LARGEST = 1 << 20
_ROOTS = (".git", ".hg")
"""Where these are a project ends: no file above it is looked at, because somebody else may have put it there."""


@dataclass(frozen=True)
class ConfigTable:
    """A table of a configuration file, with its name for messages."""

    where: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """What a configuration file says. Without a file, nothing."""

    path: Path | None = None
    table: ConfigTable = ConfigTable()


def find(start: Path) -> Configuration:
    """Return what the nearest configuration file says, from the folder `start` upwards to the root of the project.

    Raises:
        UsageError: the file cannot be read.
    """
    for folder in (start, *start.parents):
        for path in (folder / OWN, folder / SHARED):
            if path.is_file() and (found := read(path, required=path.name == OWN)).path:
                return found
        if any((folder / mark).exists() for mark in _ROOTS):
            break
    return Configuration()


def read(path: Path, *, required: bool = True) -> Configuration:
    """Return what one file says: its table `[tool.bninspect]`, or the whole file if it is not a `pyproject.toml`.

    Args:
        path: the file.
        required: whether a `pyproject.toml` without that table is an error; else it says nothing.

    Raises:
        UsageError: it is missing, too large or no TOML.
    """
    name = printable(os.path.relpath(path))
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise UsageError(f"{name} is not a configuration", why=f"too large: over {LARGEST:,} bytes")
        content = tomllib.loads(text.decode())
    except OSError as error:
        raise UsageError(f"cannot read {name}", why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} is not TOML", why=printable(str(error)), hint="write it as TOML: https://toml.io"
        ) from error
    tool = content.get("tool")
    table = tool.get("bninspect") if isinstance(tool, dict) else None
    if table is None:
        if path.name != SHARED:
            return Configuration(path, ConfigTable(name, content))
        if required:
            raise UsageError(f"{name} has no table [tool.bninspect]")
        return Configuration()
    return Configuration(path, ConfigTable(f"{name} [tool.bninspect]", _table(table, f"{name} [tool.bninspect]")))


def inner(table: ConfigTable, name: str) -> ConfigTable:
    """Return a table in a table: the options of one command. Raises UsageError if it is something else."""
    where = f"{table.where[:-1]}.{name}]" if table.where.endswith("]") else f"{table.where} [{name}]"
    return ConfigTable(where, _table(table.values[name], where))


def unknown(key: str, where: str, known: Iterable[str], hint: str = "") -> UsageError:
    """Return the error for a key that nobody knows: a typo must not loosen a gate."""
    near = nearest(key, known)
    return UsageError(
        f"unknown key '{printable(key)}' in {where}",
        why="nothing is called so",
        hint=f"did you mean {near}?" if near else hint,
    )


def wrong(key: str, where: str, value: Any, wanted: str) -> UsageError:
    """Return the error for a value of another type than its key takes."""
    return UsageError(
        f"'{printable(key)}' in {where} is {_kind(value)}", why=f"it must be {wanted}", hint=f"correct it in {where}"
    )


def tolerances(value: Any, where: str) -> tuple[ToleranceRule, ...]:
    """Return the rules of `[[tolerance]]` tables. Raises UsageError for anything else."""
    keys = ("layer", "model", "rtol", "atol", "reason")
    return tuple(
        ToleranceRule(
            layers=_text(entry, "layer", where),
            rtol=_tolerance(entry, "rtol", where),
            atol=_tolerance(entry, "atol", where),
            models=_pattern(entry, where),
            reason=_text(entry, "reason", where, ""),
        )
        for entry in _entries(value, "tolerance", where, keys)
    )


def ignores(value: Any, where: str, today: dt.date) -> tuple[IgnoreRule, ...]:
    """Return the rules of `[[ignore]]` tables. Raises UsageError for anything else.

    Args:
        value: what the key `ignore` holds.
        where: the name of the table that it stands in.
        today: rules whose last day is before it are expired.
    """
    keys = ("rule", "layer", "model", "reason", "until")
    return tuple(_ignore(entry, where, today) for entry in _entries(value, "ignore", where, keys))


def _ignore(entry: Mapping[str, Any], where: str, today: dt.date) -> IgnoreRule:
    until = entry.get("until")
    if until is not None and (not isinstance(until, dt.date) or isinstance(until, dt.datetime)):
        raise wrong("until", where, until, "a date without quotes: until = 2027-01-31")
    reason = _text(entry, "reason", where)
    if not reason.strip():
        raise UsageError(f"an ignore in {where} has no reason", hint='add reason = "why it may be ignored"')
    return IgnoreRule(
        rule=_text(entry, "rule", where),
        reason=reason,
        layers=_text(entry, "layer", where, "*"),
        models=_pattern(entry, where),
        until=until.isoformat() if until else None,
        expired=until is not None and until < today,
    )


def _entries(value: Any, key: str, where: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise wrong(key, where, value, f"tables, each below a line [[{key}]]")
    for entry in value:
        for name in entry:
            if name not in keys:
                raise unknown(name, f"{key} of {where}", keys, f"it takes {', '.join(keys)}")
    return value


def _text(entry: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = entry.get(key, default)
    if value is None:
        raise UsageError(f"'{key}' is missing in {where}", why=f"of {printable(str(dict(entry)))}")
    if not isinstance(value, str):
        raise wrong(key, where, value, "a text")
    return value


def _pattern(entry: Mapping[str, Any], where: str) -> str:
    pattern = _text(entry, "model", where, "*")
    try:
        PurePath("model").match(pattern)
    except ValueError:
        raise UsageError(f"'model' in {where} is not a pattern", why=f"it is '{printable(pattern)}'") from None
    return pattern


def _tolerance(entry: Mapping[str, Any], key: str, where: str) -> float:
    value = entry.get(key)
    if value is None:
        raise UsageError(f"'{key}' is missing in {where}", why="a tolerance takes both rtol and atol: 0 is a number")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise wrong(key, where, value, "a finite number that is not negative")
    return float(value)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {_kind(value)}", why="it must be a table")
    return value


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return f"{kinds.get(type(value), 'a table' if isinstance(value, dict) else 'a date')} ({printable(str(value), 60)})"
