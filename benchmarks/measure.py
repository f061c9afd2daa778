"""Runs commands in fresh processes, turn by turn, and measures their wall time and memory.

Other work on the machine slows whatever runs at that moment. So the commands take turns, short ones several times
in each turn, of which the fastest counts; a ratio is that of two wall times of one round, and its median is judged.
On a busy machine the processor times, shown beside, say more.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

BASELINES = Path(__file__).parent / "baselines"
# Bytecode is kept, as it is of an installed package: the first run of a command, which is not timed, writes it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT["TF_CPP_MIN_LOG_LEVEL"] = "3"
SAMPLING_SECONDS = 0.002
TURN_SECONDS = 1.0


@dataclass(frozen=True)
class Measured:
    """What one command took: wall times, one per round, its least processor time, and its peak memory in bytes."""

    seconds: tuple[float, ...]
    cpu: float
    peak: int


def measure(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Measured]:
    """Run every command once to warm the file cache and to sample its memory, then time `rounds` turns of each.

    Raises:
        SystemExit: a command did not end with 0: it did something else than what is to be measured.
    """
    peaks = {name: _peak(command) for name, command in commands.items()}
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            turns[name].append(_turn(command))
    return {
        name: Measured(
            tuple(wall for wall, _ in turns[name]), min((cpu for _, cpu in turns[name]), default=0), peaks[name]
        )
        for name in commands
    }


def show(measured: Mapping[str, Measured]) -> None:
    """Print the times and the memory of each command."""
    width = max(map(len, measured))
    print(f"{'':{width}}  {'least':>8} {'median':>8} {'most':>8} {'cpu':>8} {'peak':>8}")
    for name, result in measured.items():
        times = (min(result.seconds), statistics.median(result.seconds), max(result.seconds), result.cpu)
        columns = " ".join(f"{seconds:6.3f} s" for seconds in times)
        print(f"{name:{width}}  {columns} {result.peak / 2**20:5.0f} MB")


def judge_ratio(
    measured: Mapping[str, Measured], over: str, under: str, *, least: float = 0, most: float = math.inf
) -> None:
    """Print the ratio of the times of two commands, its spread, and whether it keeps to the target."""
    pairs = zip(measured[over].seconds, measured[under].seconds, strict=True)
    ratios = [numerator / denominator for numerator, denominator in pairs]
    ratio = statistics.median(ratios)
    target = f"at least {least:g}" if least else f"at most {most:g}"
    verdict = "met" if least <= ratio <= most else "MISSED"
    print(f"{verdict:6} {over} / {under}: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), target {target}")


def judge_peak(measured: Mapping[str, Measured], name: str, *, most: int) -> None:
    """Print the peak memory of a command and whether it keeps to the target, both in MB."""
    peak = measured[name].peak / 2**20
    print(f"{'met' if peak <= most else 'MISSED':6} memory of {name}: {peak:.0f} MB, target at most {most}")


def arguments(description: str | None, *, rounds: int) -> argparse.Namespace:
    """Return the options that all benchmarks share, `rounds` and `cache`, from the command line."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="timed turns of each command (%(default)s)")
    folder = Path(tempfile.gettempdir()) / "bninspect-benchmarks"
    parser.add_argument("--cache", type=Path, default=folder, help="folder for the networks (%(default)s)")
    return parser.parse_args()


def bninspect(*words: object) -> tuple[str, ...]:
    """Return the command that runs bninspect."""
    return (sys.executable, "-m", "bninspect", *map(str, words))


def baseline(name: str, path: Path) -> tuple[str, ...]:
    """Return the command that runs a script of `baselines/` on a model."""
    return (sys.executable, str(BASELINES / f"{name}.py"), str(path))


def _turn(command: Sequence[str]) -> tuple[float, float]:
    """Return the least wall time and the least processor time of a command, run again until its turn is over."""
    end = time.perf_counter() + TURN_SECONDS
    wall = cpu = math.inf
    while (start := time.perf_counter()) < end:
        before = _cpu_of_children()
        done = subprocess.run(command, check=False, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wall, cpu = min(wall, time.perf_counter() - start), min(cpu, _cpu_of_children() - before)
        if done.returncode:
            _refuse(command, done.returncode, done.stdout)
    return wall, cpu


def _cpu_of_children() -> float:
    """Return the processor time of all children that have ended, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system


def _peak(command: Sequence[str]) -> int:
    """Return the peak of the resident memory of a command and all its children; shared pages count twice."""
    with tempfile.TemporaryFile() as output:
        process = psutil.Popen(command, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(process))
            time.sleep(SAMPLING_SECONDS)
        if process.returncode:
            output.seek(0)
            _refuse(command, process.returncode, output.read())
    return peak


def _refuse(command: Sequence[str], code: int, said: bytes) -> NoReturn:
    sys.exit(f"{' '.join(command)}\nended with {code}:\n{said.decode(errors='replace')}")


def _resident(process: psutil.Process) -> int:
    try:
        return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0  # one ended while we looked: look again
