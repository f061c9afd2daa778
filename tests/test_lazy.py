"""What the registries name is there, and none of it is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from bninspect.exporters import EXPORTERS
from bninspect.lazy import later
from bninspect.runtimes import RUNTIMES

NAMED = [
    *(function for runtime in RUNTIMES for function in (runtime.observe, runtime.observe_layers, runtime.open)),
    *(exporter.encode for exporter in EXPORTERS),
]


@pytest.mark.parametrize("function", [function for function in NAMED if function is not None])
def test_every_function_that_a_registry_names_is_there(function: Any) -> None:
    assert callable(getattr(import_module(function.__module__), function.__name__))


def test_it_is_imported_when_it_is_called() -> None:
    script = (
        "import sys; from bninspect.lazy import later; call = later('colorsys', 'rgb_to_hsv');"
        "assert 'colorsys' not in sys.modules; assert call(1.0, 1.0, 1.0) == (0.0, 0.0, 1.0);"
        "assert 'colorsys' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_process_of_a_framework_loads_what_a_keras_file_needs_and_no_more() -> None:
    """161 modules of ours were loaded for a Keras file when all runtimes were imported with their readers."""
    script = (
        "import sys, bninspect.verdicts.verify_task, bninspect.runtimes.keras.tf_keras; print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    ours = [name for name in done.stdout.split() if name.startswith("bninspect")]
    assert len(ours) < 90
    assert not [name for name in ours if name.startswith(("bninspect.formats.onnx", "bninspect.formats.torch"))]


def test_a_name_that_is_not_there_is_an_error_of_the_call() -> None:
    with pytest.raises(AttributeError):
        later("math", "nothing")()
