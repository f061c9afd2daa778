"""The command that makes the part of a report about one model again, wherever its options came from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from bninspect.records import ModelReport, Option, Report
from bninspect.safe_text import printable
from bninspect.settings import EpsilonRule

_ELSEWHERE = ("jobs", "dask", "shard")
"""Options of how several models are worked on: they change nothing in what is said of one."""
_RULES = ("ignores", "tolerances")
"""What only a configuration file can say."""
_LONGEST = 2000


def command(model: ModelReport, report: Report) -> str:
    """Return the command line, quoted for a POSIX shell, with control characters of names as escapes."""
    options = [word for name, option in report.options.items() for word in _words(name, option)]
    path = f"./{model.path}" if model.path.startswith("-") else model.path
    line = shlex.join(["bninspect", report.command, path, *options])
    return printable(line, _LONGEST)


def configured(report: Report) -> str:
    """Return the file whose rules the command needs besides; empty if it needs none."""
    places = [option.source for name, option in report.options.items() if name in _RULES and option.value]
    return printable(places[0]) if places else ""


def _words(name: str, option: Option) -> Iterator[str]:
    left_out = option.source == "default" or name.endswith("_sha256") or name in (*_ELSEWHERE, *_RULES)
    if left_out or option.value is None or option.value is False:
        return
    flag = f"--{name.replace('_', '-')}"
    for value in _values(option.value):
        yield from (flag,) if value is True else (flag, _text(value))


def _values(value: Any) -> list[Any]:
    if isinstance(value, Mapping):  # shapes of inputs, by name
        return [f"{name}={','.join(map(str, dims))}".removeprefix("=") for name, dims in value.items()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # an epsilon, for the layers that a pattern fits
        return "=".join(str(part) for part in value.values())
    return f"{value.layers}={value.value}" if isinstance(value, EpsilonRule) else str(value)
