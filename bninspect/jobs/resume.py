"""What an earlier run with the same options has found out already, from its JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bninspect import environment
from bninspect.errors import UsageError
from bninspect.records import Heading, ModelReport, codec
from bninspect.reports import json_document
from bninspect.safe_text import printable

_LIMITS = ("jobs", "timeout", "max_memory")
_HARMLESS = frozenset({*_LIMITS, "dask", "cache", "cache_size", "allow_empty"})
"""Options that no result depends on, except whether there is one: several jobs share the memory."""


@dataclass(frozen=True)
class Earlier:
    """What can be taken over."""

    models: Mapping[str, ModelReport] = field(default_factory=dict)
    """By path, what was found out of models with a digest. That one has not ended within the limits is known, too, as
    long as they are the same; other errors are tried again."""
    running: Mapping[str, Any] = field(default_factory=dict)
    """What the framework's process said of its environment, if that run came to its end."""
    stale: str = ""
    """Why nothing of an earlier run can be taken over; empty if it can, or if there was none."""


def earlier(path: Path, now: Heading) -> Earlier:
    """Return what the run that wrote a file of JSON Lines has found out, if `now` asks the same.

    Args:
        path: the file; if there is none, nothing is known yet.
        now: what the run that now begins asks.

    Raises:
        UsageError: the file is not such a report, or is of another command or of other options.
    """
    label = printable(str(path))
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot resume from {label}", why=str(error)) from error
    if not text:
        return Earlier()
    head = _head(text, label)
    for name, before, after in _asked(head, codec.encode(now)):
        if before != after:
            raise UsageError(
                f"{label} is of another run",
                why=f"its {name} is {_short(before)}, now it is {_short(after)}",
                hint="resume with the same options, or name another file",
            )
    if changed := _changed(head, now):
        return Earlier(stale=changed)
    same = all(_value(head["options"], name) == _value(codec.encode(now.options), name) for name in _LIMITS)
    kept = (None, "LimitExceeded") if same else (None,)
    models = {model.path: model for model in json_document.models_in_lines(text)}
    found = {path: one for path, one in models.items() if one.sha256 and (one.error and one.error.kind) in kept}
    return Earlier(found, _running(text, now))


def _head(text: str, label: str) -> dict[str, Any]:
    try:
        head = json.loads(text.partition("\n")[0])
        if "command" in head and all(isinstance(head[part], dict) for part in ("tool", "options")):
            return dict(head)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UsageError(
        f"{label} is not a report to resume from",
        why="its first line is not that of JSON Lines as bninspect writes them",
        hint="name a new file, or one that -o jsonl=FILE or --resume FILE wrote",
    )


def _running(text: str, now: Heading) -> dict[str, Any]:
    """Return what a finished run knew of its environment besides what is known before any model."""
    try:
        last = json_document.parse_lines(text).environment
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in last.items() if name not in now.environment}


def _asked(head: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return what was asked for then and now: (name, then, now)."""
    before, after = head["options"], now["options"]
    names = sorted({*before, *after} - _HARMLESS)
    values = [(f"option {name}", _value(before, name), _value(after, name)) for name in names]
    return [("command", head["command"], now["command"]), *values]


def _value(options: Mapping[str, Any], name: str) -> Any:
    option = options.get(name)
    return option.get("value") if isinstance(option, dict) else None


def _changed(head: Mapping[str, Any], now: Heading) -> str:
    """Return what of the surroundings is no longer the same, in words; empty if all is."""
    known = head.get("environment") or {}
    pairs = [("bninspect", head["tool"].get("version"), now.tool["version"])]
    pairs += [(name, known.get(name), now.environment[name]) for name in ("python", *environment.PACKAGES)]
    changed = (
        f"{name} was {_short(before)} and is {_short(after)}" for name, before, after in pairs if before != after
    )
    return next(changed, "")


def _short(value: Any) -> str:
    return printable(json.dumps(value), 80)
