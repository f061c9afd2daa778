"""What is installed here, found without importing any of it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

PACKAGES = {
    "numpy": "numpy",
    "h5py": "h5py",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "tf_keras": "tf_keras",
    "onnxruntime": "onnxruntime",
    "ai_edge_litert": "ai_edge_litert",
    "torch": "torch",
}


def installed(module: str) -> str | None:
    """Return the version of an importable package, `unknown` if it does not say, None if it is not there."""
    if find_spec(module) is None:
        return None
    for distribution in (module, module.replace("_", "-"), f"{module}-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


def processor_features() -> tuple[str, ...]:
    """Return what this processor can do of what NumPy looks for, such as `AVX2`: kernels are chosen by it."""
    import numpy as np

    core = getattr(np, "_core", None) or getattr(np, "core", None)  # NumPy 1.26 calls it core
    found = getattr(getattr(core, "_multiarray_umath", None), "__cpu_features__", {})
    return tuple(sorted(name for name, there in found.items() if there))


@cache  # a report asks before its first model and after its last
def describe() -> Mapping[str, str | None]:
    """Return the versions of Python, of the system and of every package that matters to a verdict."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: installed(module) for name, module in PACKAGES.items()},
    }
