"""Makes tf_keras wrong, for tests of the command line: Python imports this module at its start.

$TAMPERED names the module of this folder that changes it: `patch(module)` is called when a module of `MODULES` has been
imported. What bninspect must find is thereby on the framework's side, in a real run.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from typing import Any


class _Patcher(importlib.abc.MetaPathFinder):
    def __init__(self, tampering: Any) -> None:
        self._tampering = tampering

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self._tampering.MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def patched(module: Any) -> None:
            execute(module)
            self._tampering.patch(module)

        spec.loader.exec_module = patched  # type: ignore[method-assign]
        return spec


if name := os.environ.get("TAMPERED"):
    sys.meta_path.insert(0, _Patcher(importlib.import_module(name)))
