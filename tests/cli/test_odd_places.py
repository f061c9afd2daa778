"""Files that may not be read, folders that may not be written to, disks that are full: said as such, never a defect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BNINSPECT = (sys.executable, "-m", "bninspect")
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Root may read everything; without its capabilities it is a user like others."""
Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and limits of POSIX")


@pytest.fixture
def place(sample_models: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with a model; a file and two folders that may not be read, entered or written to."""
    for name in ("m.h5", "locked.h5", "closed/m.h5", "many/closed/m.h5", "many/m.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample_models / "keras2_digits.h5", tmp_path / name)
    (tmp_path / "ro").mkdir(mode=0o555)
    shut = [tmp_path / name for name in ("locked.h5", "closed", "many/closed")]
    for path in shut:
        path.chmod(0)
    yield tmp_path
    for path in shut:
        path.chmod(0o700)


@pytest.fixture
def run(place: Path) -> Run:
    prefix = POWERLESS if os.geteuid() == 0 else ()
    if prefix and (not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False).returncode):
        pytest.skip("root may read everything, and setpriv cannot take that away here")

    def called(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*prefix, *BNINSPECT, *arguments]
        return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)

    return called


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("lint", "locked.h5", "m.h5", "-q"), 3, "ERROR locked.h5 cannot be opened\n      why: Permission denied\n"),
        (("lint", "closed"), 3, "ERROR closed cannot be opened\n      why: Permission denied\n"),
        (("lint", "many"), 3, "ERROR many/closed cannot be opened\n      why: Permission denied\n"),
        (("lint", "closed/m.h5"), 2, "Path 'closed/m.h5' cannot be reached.\n  why: Permission denied\n"),
        (("explain", "m.h5", "--input", "locked.h5"), 2, "why: Permission denied\n  hint: chmod +r locked.h5\n"),
        (("lint", "m.h5", "-o", "html=ro/pages/"), 2, "hint: name a folder that you may write to\n"),
        (("lint", "m.h5", "-q", "-o", "json=ro/r.json"), 3, "hint: name a file in a folder that you may write to\n"),
    ],
)
def test_what_is_not_allowed_is_said(arguments: tuple[str, ...], code: int, said: str, run: Run) -> None:
    done = run(*arguments)
    assert said in done.stdout + done.stderr
    assert done.returncode == code
    assert "internal error" not in done.stdout + done.stderr


@pytest.mark.tensorflow
def test_an_export_that_may_not_be_read_is_an_error_of_the_export(run: Run) -> None:
    done = run("verify", "m.h5", "--against", "locked.h5", "-q")
    assert (done.returncode, done.stderr) == (3, "")
    assert "locked.h5 cannot be opened\n      why: Permission denied\n" in done.stdout


def test_a_verdict_without_its_report_says_with_which_code_it_ends(place: Path) -> None:
    command = [*BNINSPECT, "lint", "m.h5", "-q", "-o", "json=nowhere/r.json"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == "ERROR 1 model; exit 3: checked, and nothing fails, but a file could not be written\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [("doctor",), ("--help",), ("export", "m.h5", "-f", "csv", "-o", "-"), ("rule",)])
def test_no_command_takes_a_full_disk_for_a_defect(arguments: tuple[str, ...], place: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*BNINSPECT, *arguments], cwd=place, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "error: the result cannot be written to standard output"


def test_lines_that_do_not_fit_are_told_once(place: Path) -> None:
    limited = ["bash", "-c", 'ulimit -f 2; exec "$@"', "-"]  # no file may grow beyond 2 KiB
    command = [*limited, *BNINSPECT, "lint", "m.h5", "-f", "jsonl", "-o", "jsonl=r.jsonl"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: a file of JSON Lines is not complete\n")
    assert "internal error" not in done.stderr
    assert done.stdout.count("\n") == 3
