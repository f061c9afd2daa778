"""Which converters get batch norm right: patterns of batch norm by converters, measured, and judged by bninspect.

    python benchmarks/converters.py setup                            # the converters' environments; several GB
    python benchmarks/converters.py run                              # an hour; goes on where it was stopped
    python benchmarks/converters.py table                            # writes docs/explanation/converters.md
    python benchmarks/converters.py make torch onnxsim conv FOLDER   # the files of one cell

Each converter runs in a virtual environment of its own that can install and fetch nothing: converter_environments.py.
`--cache FOLDER` is where environments, models, exports and results are kept.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import converter_environments as environments
from converter_cells import cells
from converter_list import BOTH, BY_NAME, CONVERTERS, RUNS_IN
from converter_results import result
from converter_table import Page, render

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "explanation" / "converters.md"
MODULES = {
    "tensorflow": "convert_with_tensorflow",
    "torch": "convert_with_torch",
    "onnx": "convert_with_onnx",
    "openvino": "convert_with_openvino",
    "ncnn": "convert_with_pnnx",
    "litert-torch": "convert_with_litert_torch",
    "onnx2tf": "convert_with_onnx2tf",
    "tensorflowjs": "convert_with_tensorflowjs",
    "coremltools": "convert_with_coremltools",
}
"""The module of converters of each environment, in an order in which those come first whose files others take."""
TRIES = 8
"""How often a process is started again that a converter has ended; what ended it is left out."""


def setup(cache: Path) -> None:
    """Install every environment that is not there, and print what could not be installed."""
    for name in environments.ENVIRONMENTS:
        failure = environments.install(cache, name)
        print(f"{name}: {failure or 'installed'}", flush=True)


def step(cache: Path, environment: str, *arguments: str) -> None:
    """Run a script in an environment, again while it dies, and print how long that took."""
    start = time.monotonic()
    own = environment == "bninspect"
    python = sys.executable if own else str(environments.python(cache, environment))
    around = dict(os.environ) if own else environments.shut_in(cache, environment)
    with (cache / "log.txt").open("a") as log:
        for _ in range(TRIES):
            command = [python, arguments[0], str(cache), *arguments[1:]]
            done = subprocess.run(command, cwd=HERE, env=around, stdout=log, stderr=log, check=False)
            if done.returncode == 0:
                break
    taken = time.monotonic() - start
    print(f"{' '.join((environment, *arguments))}: {taken:.0f} s", flush=True)


def run(cache: Path) -> None:
    """Make, convert, run and judge whatever has not been yet."""
    step(cache, "tensorflow", "converter_sources.py", "keras")
    step(cache, "torch", "converter_sources.py", "torch")
    for environment, module in MODULES.items():
        if environments.install(cache, environment) is None:
            step(cache, environment, "converter_programs.py", module)
    for runtime, environment in RUNS_IN.items():
        step(cache, environment, "converter_runs.py", runtime)
    for family in BOTH:
        step(cache, "bninspect", "converter_verdicts.py", family)


def table(cache: Path, page: Path, note: str = "") -> None:
    """Write the page, with a note on how its results came about."""
    found = [each for each in map(result, cells(cache)) if each is not None]
    versions = {}
    for converter in CONVERTERS:
        known = environments.installed(cache, converter.environment)
        versions[converter.package] = known.get(converter.package.lower(), "")
    failed = {name: environments.install(cache, name) for name in environments.ENVIRONMENTS}
    page.write_text(
        render(
            Page(
                found,
                versions,
                {name: message for name, message in failed.items() if message},
                dt.datetime.now(dt.UTC).strftime("%d %B %Y"),
                sum(seconds(cache)) / 60,
                note,
            )
        )
    )
    print(f"{page}: {len(found)} cells, {sum(each.disagrees for each in found)} disagreements")


def seconds(cache: Path) -> Iterator[float]:
    """Yield how long each conversion and each verdict took."""
    for path in (cache / "exports").glob("*/*/*/*.json"):
        if path.stem in {"conversion", "verdict"}:
            yield json.loads(path.read_text()).get("seconds", 0.0)


def make(cache: Path, family: str, converter: str, pattern: str, folder: Path) -> None:
    """Copy the model and the export of one cell, and print the command that judges them."""
    cell = next(one for one in cells(cache, [converter]) if (one.family, one.pattern) == (family, pattern))
    for source in (cell.source, cell.folder):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    model = next(path.name for path in sorted(cell.source.glob("model.*")))
    export = cell.told("conversion").get("file")
    print(f"cd {folder}; bninspect verify {model}" + (f" --against {export}" if export else ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "bninspect-converters")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("setup", "run"):
        commands.add_parser(name)
    writer = commands.add_parser("table")
    writer.add_argument("page", type=Path, nargs="?", default=PAGE)
    writer.add_argument("--note", default="")
    maker = commands.add_parser("make")
    maker.add_argument("family", choices=BOTH)
    maker.add_argument("converter", choices=sorted(BY_NAME))
    maker.add_argument("pattern")
    maker.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    cache = given.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    if given.command == "make":
        make(cache, given.family, given.converter, given.pattern, given.folder)
    elif given.command == "table":
        table(cache, given.page, given.note)
    else:
        {"setup": setup, "run": run}[given.command](cache)


if __name__ == "__main__":
    main()
