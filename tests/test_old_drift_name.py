"""`bninspect.drift` is a function; the module that had its name is still found by old code, which is warned."""

from __future__ import annotations

import subprocess
import sys

import pytest

OLD_AND_NEW = {
    "import bninspect; f = bninspect.drift": "drift",
    "from bninspect import drift as f": "drift",
    "import bninspect.drift; f = bninspect.drift.Watch": "Watch",
    "from bninspect.drift import Limits as f": "Limits",
    "import bninspect; g = bninspect.drift; import bninspect.drift; f = g": "drift",
}


@pytest.mark.parametrize("script", OLD_AND_NEW)
def test_both_are_found(script: str) -> None:
    code = f"{script}; print(f.__name__)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == OLD_AND_NEW[script], done.stderr
    # Only what is loaded as __main__ shows such a warning; old code is.
    assert ("is now called bninspect.training_drift" in done.stderr) == (
        "bninspect.drift import" in script or "import bninspect.drift" in script
    )


def test_whoever_imports_the_module_can_still_call_the_function() -> None:
    code = (
        "import bninspect.drift\n"
        "try: bninspect.drift('m.h5', 'no-such-data')\n"
        "except bninspect.BninspectError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert "there is no data at 'no-such-data'" in done.stdout, done.stderr
