"""Hand-made ports from PyTorch to Keras, right and wrong, each held against its original, in both directions.

    python benchmarks/ports.py [--seeds 2] [--nets ResNet18,MobileNetV2,U-Net] [--width 8]

Of each net there are right ports, in the ways people write them, and one for each fault of `ported_nets.FAULTS`. A
right one must pass. A wrong one must fail, and what is said of it must name the layer that was ported wrong, in the
words of the first file and with its place in the second. `momentum` is right at inference: it passes, and is told.
What falls short is listed below the table.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from ported_nets import FAULTS, STYLES, Fault, original, ported, program

from bninspect import formats
from bninspect.equivalence import task
from bninspect.errors import BninspectError
from bninspect.records import ModelReport, Status
from bninspect.settings import Settings


def judged(source: Path, export: Path) -> ModelReport | str:
    """Return the report on two files, or why there is none."""
    try:
        return task.compare(formats.read(source), formats.read(export), Settings()).model
    except BninspectError as error:
        return f"{error} {error.why}"


def said(model: ModelReport) -> list[tuple[str, str]]:
    """Return the layer of each mismatch that is not inherited and of each finding, and what is said of it."""
    found = [
        (layer.name, one.place + ": " + one.sentence)
        for layer in model.layers
        if (one := layer.counterpart) is not None and one.sentence and not one.inherited
    ]
    found += [(layer.name, one.message) for layer in model.layers for one in layer.findings]
    return found + [(one.message.split(" in ")[0], one.message) for one in model.findings]


def shortfall(model: ModelReport | str, fault: str, expected: Fault | None) -> str:
    """Return what falls short of what must be said; empty if nothing does."""
    if isinstance(model, str):
        return model
    why = "; ".join(f"{name}: {text}" for name, text in said(model)[:4])
    why += "; ".join(model.against.open if model.against else ())
    if expected is None or fault == "momentum":
        if model.status is not Status.PASS:
            return f"{model.status}: {why}"
        if expected is not None and not any("momentum" in text for _, text in said(model)):
            return "passes, and momentum is not told"
        return ""
    if model.status is not Status.FAIL:
        return f"{model.status}: {why}"
    named = expected.where if not expected.seen else f"{expected.where}|{expected.seen}"
    wanted = re.compile("(" + re.sub(r"[._]", "[._]", named) + r")\b")
    first = next(iter(said(model)), ("", ""))
    return "" if wanted.search(" ".join(first)) else f"named elsewhere: {why}"


def main() -> None:
    """Make the ports, judge them in both directions and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--nets", default=",".join(FAULTS))
    parser.add_argument("--faults", default="")
    options = parser.parse_args()
    counted: Counter[tuple[str, str, str]] = Counter()
    lines: list[str] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in options.nets.split(","):
            for seed in range(options.seeds):
                net = original(name, seed, options.width)
                source = program(net, Path(folder) / f"{seed}.pt2")
                cases: list[tuple[str, str, Fault | None]] = [("", style, None) for style in STYLES[name]]
                cases += [(fault, "", where) for fault, where in FAULTS[name].items()]
                for fault, style, expected in cases:
                    if options.faults and fault not in options.faults.split(","):
                        continue
                    port = Path(folder) / "port.keras"
                    ported(name, net, fault, style).save(port)
                    for way, first, second in (("to Keras", source, port), ("to PyTorch", port, source)):
                        short = shortfall(judged(first, second), fault, expected)
                        kind = fault or f"right {style}".strip()
                        counted[name, way, "falls short" if short else "right" if expected is None else "told"] += 1
                        print(f"{name:12} {way:10} {kind:45} {'falls short' if short else 'ok'}", flush=True)
                        if short:
                            lines.append(f"{name} {seed} {way}, {kind}: {short}")
    for (name, way, what), count in sorted(counted.items()):
        print(f"{name:12} {way:10} {what:12} {count}")
    print(f"{time.perf_counter() - start:.0f} s")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
