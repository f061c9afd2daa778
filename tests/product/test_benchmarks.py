"""What the benchmarks measure with: a wrong yardstick would make every figure worthless."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ALLOCATE = "import time; block = bytearray(b'x') * 100_000_000; time.sleep(0.3)"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("measure")


def test_memory_of_children_counts(measure: ModuleType) -> None:
    spawn = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ALLOCATE!r}], check=True)"
    measured = measure.measure({"parent": (sys.executable, "-c", spawn)}, rounds=0)
    assert 100e6 < measured["parent"].peak < 200e6


def test_processor_time_of_children_counts(measure: ModuleType) -> None:
    count = "import time\nwhile time.process_time() < 0.3: pass"
    spawn = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {count!r}], check=True)"
    measured = measure.measure({"parent": (sys.executable, "-c", spawn)}, rounds=1)
    assert measured["parent"].cpu >= 0.3


def test_each_round_runs_every_command_in_turn(
    measure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "TURN_SECONDS", 1e-3)  # less than any command takes: one run in each turn
    log = tmp_path / "log"

    def note(word: str) -> tuple[str, ...]:
        return (sys.executable, "-c", f"open({str(log)!r}, 'a').write({word!r})")

    measured = measure.measure({"a": note("a"), "b": note("b")}, rounds=2)
    assert log.read_text() == "ababab"  # the first two warm up and are not timed
    assert [len(result.seconds) for result in measured.values()] == [2, 2]


@pytest.mark.parametrize("good_runs", [0, 1, 2])
def test_a_command_that_fails_is_not_measured(measure: ModuleType, tmp_path: Path, good_runs: int) -> None:
    log = tmp_path / "log"
    code = f"f = open({str(log)!r}, 'a+'); f.write('.'); raise SystemExit(3 * (f.tell() > {good_runs}))"
    with pytest.raises(SystemExit, match="ended with 3"):
        measure.measure({"bad": (sys.executable, "-c", code)}, rounds=2)


@pytest.mark.parametrize(("seconds", "verdict"), [((3.0, 9.0, 2.0), "met "), ((4.0, 12.0, 2.0), "MISSED ")])
def test_the_median_ratio_is_judged(
    measure: ModuleType, capsys: pytest.CaptureFixture[str], seconds: tuple[float, ...], verdict: str
) -> None:
    measured = {"a": measure.Measured(seconds, 0, 0), "b": measure.Measured((1.0, 3.0, 1.0), 0, 0)}
    measure.judge_ratio(measured, "a", "b", most=3)
    assert capsys.readouterr().out.startswith(verdict)
