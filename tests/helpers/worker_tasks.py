"""Tasks for tests of the supervisor: what a file from a stranger or a framework may do to a process."""

from __future__ import annotations

import ctypes
import importlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from bninspect.errors import DamagedFile
from bninspect.records import Option
from bninspect.workers.tasks import LoadedTask


def _echo(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    progress("half-way")
    return Option(arguments["value"], "echo")


def _import(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    sys.path.insert(0, arguments["folder"])
    try:
        importlib.import_module(arguments["name"])
    except ImportError:
        return Option(False, "import")
    return Option(True, "import")


def _array_sum(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    return Option(float(arrays[arguments["array"]["array"]].sum()), "array_sum")


def _refuse(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    raise DamagedFile("broken", why="because", hint="mend it")


def _blunder(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    raise KeyError("a defect")


def _hang_holding_the_lock(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    # As libhdf5 does on a damaged heap: native code that keeps the interpreter's lock for ever.
    ctypes.PyDLL(None).sleep(600)
    raise AssertionError


def _hang_with_children(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    # The second one leaves the group of the worker, as a server that a framework starts does.
    for apart in (False, True):
        subprocess.Popen(["sleep", "600"], start_new_session=apart)
    pathlib.Path(arguments["note"]).touch()
    ctypes.PyDLL(None).sleep(600)
    raise AssertionError


def _crash_with_a_child(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    subprocess.Popen(["sleep", "600"])
    os.abort()


def _crash(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    ctypes.string_at(0)
    raise AssertionError


def _leave(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    print("last words", file=sys.stderr)
    sys.stderr.flush()
    os._exit(7)


def _devour(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    held = []
    for _ in range(2000):
        held.append(b"x" * 10_000_000)
        time.sleep(0.001)
    return Option(len(held), "devour")


def _babble(arguments: Mapping[str, Any], arrays: list[Any], progress: Any) -> Option:
    print("what a library prints must not look like an answer")
    os.write(1, b"\0\0\0\0\0\0\0\7garbage\n")
    print("E0000 a real error", file=sys.stderr)
    print("I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on.", file=sys.stderr)
    return Option("intact", "babble")


def echo() -> LoadedTask[Option]:
    return LoadedTask(_echo)


def imports() -> LoadedTask[Option]:
    return LoadedTask(_import)


def array_sum() -> LoadedTask[Option]:
    return LoadedTask(_array_sum)


def refuse() -> LoadedTask[Option]:
    return LoadedTask(_refuse)


def blunder() -> LoadedTask[Option]:
    return LoadedTask(_blunder)


def hang_holding_the_lock() -> LoadedTask[Option]:
    return LoadedTask(_hang_holding_the_lock)


def crash() -> LoadedTask[Option]:
    return LoadedTask(_crash)


def leave() -> LoadedTask[Option]:
    return LoadedTask(_leave)


def devour() -> LoadedTask[Option]:
    return LoadedTask(_devour)


def babble() -> LoadedTask[Option]:
    return LoadedTask(_babble)


def hang_with_children() -> LoadedTask[Option]:
    return LoadedTask(_hang_with_children)


def crash_with_a_child() -> LoadedTask[Option]:
    return LoadedTask(_crash_with_a_child)
