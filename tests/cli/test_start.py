"""The command line starts fast: what a command does not need is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "h5py", "rich", "tensorflow", "keras", "tf_keras"}

REPORT_IMPORTS = """
import sys
sys.argv = ["bninspect", *{arguments!r}]
from bninspect.__main__ import main
try:
    main()
except SystemExit as end:
    code = end.code
heavy = sorted({heavy!r} & set(sys.modules))
print("IMPORTED", code, *heavy)
"""


def _start(*arguments: str) -> list[str]:
    script = REPORT_IMPORTS.format(arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), "0"),
        (("--version",), "0"),
        (("verify", "--help"), "0"),
        (("inspect", "--help"), "0"),
        (("export", "--help"), "0"),
        (("verify", "no-such-file.h5"), "2"),
    ],
)
def test_help_and_wrong_usage_import_nothing_heavy(arguments: tuple[str, ...], code: str) -> None:
    assert _start(*arguments) == ["IMPORTED", code]


def test_the_check_itself_sees_an_import() -> None:
    script = "import sys, numpy; print('IMPORTED', *sorted({'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["IMPORTED", "numpy"]


def test_importing_the_library_costs_nothing() -> None:
    script = f"import sys, bninspect; print('IMPORTED', *sorted({HEAVY!r} & set(sys.modules)), bninspect.__version__)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["IMPORTED", "0.1.0"]
