"""Converts the patterns in one environment; started by converters.py, with that environment's Python.

    python converter_programs.py CACHE MODULE CONVERTER...

MODULE has a dictionary CONVERTERS of functions that take a Cell, write into its folder, and return the file's name. A
cell that was begun and never ended has ended the process: it is not tried again.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from converter_cells import Cell, NothingToTake, cells, shortened

Convert = Callable[[Cell], str]


def convert(cell: Cell, function: Convert) -> None:
    """Convert one pattern, and keep what came of it."""
    if cell.told("conversion") or (cell.before and not cell.before.told("conversion")):
        return
    cell.tell("conversion", error="the process ended")
    start = time.monotonic()
    try:
        name = function(cell)
    except NothingToTake:
        cell.tell("conversion", absent=True)
        return
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a converter raises is what it says
        traceback.print_exc()
        cell.tell("conversion", error=shortened(f"{type(error).__name__}: {error}"), seconds=time.monotonic() - start)
        return
    cell.tell("conversion", file=name, seconds=time.monotonic() - start)


def main() -> None:
    """Convert every pattern by the converters that were named."""
    cache, module, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    warnings.simplefilter("ignore")
    functions: dict[str, Convert] = importlib.import_module(module).CONVERTERS
    for cell in cells(cache, names or list(functions)):
        convert(cell, functions[cell.converter.name])


if __name__ == "__main__":
    main()
