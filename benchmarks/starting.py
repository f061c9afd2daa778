"""Start-up: `python benchmarks/starting.py` sets `bninspect --help` against the least a click program can cost."""

from __future__ import annotations

import sys

from measure import arguments, bninspect, judge_ratio, measure, show


def main() -> None:
    """Measure, print, judge."""
    options = arguments(__doc__, rounds=5)
    commands = {"bninspect --help": bninspect("--help"), "import click": (sys.executable, "-c", "import click")}
    measured = measure(commands, options.rounds)
    show(measured)
    judge_ratio(measured, "bninspect --help", "import click", most=2)


if __name__ == "__main__":
    main()
