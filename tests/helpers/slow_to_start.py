"""A task of a process that takes longer to start than the task may take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bninspect.records import Option
from bninspect.workers.tasks import LoadedTask


def _prepare() -> None:
    time.sleep(2.5)


def _echo(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    return Option(arguments["value"], "echo")


def _hang(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    time.sleep(600)
    raise AssertionError


def echo() -> LoadedTask[Option]:
    return LoadedTask(_echo, _prepare)


def hang() -> LoadedTask[Option]:
    return LoadedTask(_hang, _prepare)
