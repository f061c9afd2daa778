"""Exports that were tampered with and exports that are right, of seven small trained nets; prints the tables.

    python benchmarks/tampers.py tampered [--nets conv,unet] [--kinds int8,onnx] [--limit 4]
    python benchmarks/tampers.py right    [--seeds 2]
    python benchmarks/tampers.py smallest [--nets dense]

tampered: each net is broken in each way that fits it (an attribute, a step, some weights), converted, and held
against the net as it is. What counts is what changes the output, in the export's own runtime, by more than twice what
converting the right net changes it (two roundings of its largest at least): none of these may pass.

right: each net, of several seeds, through every converter and option: none may end as a mismatch, few as not checked.

smallest: by how little the last layer can be changed, all of it or its largest weight or bias, so that it is still a
mismatch, in each kind of export: to a factor of two.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from small_exports import (
    KERAS_KINDS,
    KERAS_RIGHT,
    TORCH_KINDS,
    TORCH_RIGHT,
    program,
    quiet,
    script,
)
from small_exports import run as outputs
from small_nets import LINEAR, NETS, SmallNet, Step, in_keras, inputs, trained

from bninspect import formats
from bninspect.equivalence import task
from bninspect.errors import BninspectError
from bninspect.records import Status
from bninspect.settings import Settings

Change = Callable[[SmallNet], "SmallNet | None"]


def _steps(change: Callable[[Step], Step | None], *, once: bool = True) -> Change:
    """Return a change of the first step for which there is one."""

    def apply(net: SmallNet) -> SmallNet | None:
        changed, steps = False, []
        for step in net.steps:
            other = None if changed and once else change(step)
            changed |= other is not None
            steps.append(other or step)
        return replace(net, steps=tuple(steps)) if changed else None

    return apply


def _exchange(op: str, other: str) -> Change:
    return _steps(lambda step: replace(step, op=other) if step.op == op else None)


def _attribute(ops: tuple[str, ...], **changes: Any) -> Change:
    return _steps(lambda step: replace(step, **changes) if step.op in ops else None)


def _weights(ops: tuple[str, ...], place: int, change: Callable[[Any], Any], *, last: bool = False) -> Change:
    """Return a change of one array of the first step of a kind, or of the last."""

    def apply(net: SmallNet) -> SmallNet | None:
        names = [one.name for one in net.steps if one.op in ops and len(net.weights.get(one.name, ())) > place]
        if not names:
            return None
        name = names[-1 if last else 0]
        arrays = list(net.weights[name])
        arrays[place] = change(arrays[place].copy())
        return replace(net, weights={**net.weights, name: tuple(arrays)})

    return apply


def _largest(factor: float) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values.reshape(-1)[np.abs(values).argmax()] *= factor
        return values

    return change


def _rolled(values: Any) -> Any:
    return np.roll(values, 1, axis=0)


def _behind(op: str, new: Step) -> Change:
    """Return a change that puts a step behind the first of a kind."""

    def apply(net: SmallNet) -> SmallNet | None:
        place = next((place for place, one in enumerate(net.steps) if one.op == op), None)
        if place is None:
            return None
        old = net.steps[place].name
        rest = tuple(
            replace(one, of=tuple(new.name if name == old else name for name in one.of))
            for one in net.steps[place + 1 :]
        )
        return replace(net, steps=(*net.steps[: place + 1], new, *rest))

    return apply


def _in_front(new: Step) -> Change:
    return lambda net: replace(net, steps=(new, *net.steps)) if len(net.shape) == 3 else None


def _order(op: str) -> Change:
    return _steps(lambda step: replace(step, of=step.of[::-1]) if step.op == op else None)


def _exchanged_norms(net: SmallNet) -> SmallNet | None:
    """Exchange two batch norms of the same width."""
    names = [one.name for one in net.steps if one.op == "norm"]
    for first in names:
        for second in names:
            if first != second and net.weights[first][0].shape == net.weights[second][0].shape:
                other = {first: net.weights[second], second: net.weights[first]}
                return replace(net, weights={**net.weights, **other})
    return None


def _inputs_exchanged(net: SmallNet) -> SmallNet | None:
    """Have the first step with two inputs take another value of the same shape in the place of its first."""
    place = next((place for place, one in enumerate(net.steps) if len(one.of) == 2), None)
    if place is None:
        return None
    step = net.steps[place]
    other = replace(step, of=(step.of[1], step.of[1]))
    if step.op == "concat":
        return None
    return replace(net, steps=(*net.steps[:place], other, *net.steps[place + 1 :]))


IMAGES = ("conv", "depthwise")
LAST = LINEAR
TAMPERS: Mapping[str, Change] = {
    "head x 1.1": _weights(LAST, 0, lambda w: w * 1.1, last=True),
    "head zeroed": _weights(LAST, 0, np.zeros_like, last=True),
    "head negated": _weights(LAST, 0, np.negative, last=True),
    "head, one weight x 1.5": _weights(LAST, 0, _largest(1.5), last=True),
    "head, outputs exchanged": _weights(("dense",), 0, _rolled, last=True),
    "head, bias off by 0.3": _weights(LAST, 1, lambda b: b + 0.3 * (np.arange(b.size) == 0), last=True),
    "first kernel mirrored": _weights(("conv", "dense"), 0, lambda w: np.ascontiguousarray(w[..., ::-1])),
    "first kernel, outputs exchanged": _weights(("conv", "dense"), 0, _rolled),
    "first kernel, one weight x 2": _weights(LINEAR, 0, _largest(2.0)),
    "gamma of one channel": _weights(("norm",), 0, _largest(1.3)),
    "beta negated": _weights(("norm",), 1, np.negative, last=True),
    "mean ignored": _weights(("norm",), 2, np.zeros_like),
    "variance of one channel": _weights(("norm",), 3, _largest(3.0), last=True),
    "variance is its root": _weights(("norm",), 3, np.sqrt),
    "another epsilon": _attribute(("norm",), epsilon=0.3),
    "batch norms exchanged": _exchanged_norms,
    "relu for relu6": _exchange("relu6", "relu"),
    "relu6 for relu": _exchange("relu", "relu6"),
    "no activation": _exchange("relu", "pass"),
    "leaky for relu": _exchange("relu", "leaky"),
    "tanh for relu": _exchange("relu", "tanh"),
    "hard sigmoid for tanh": _exchange("tanh", "hard sigmoid"),
    "hard sigmoid for sigmoid": _exchange("sigmoid", "hard sigmoid"),
    "sigmoid for softmax": _exchange("softmax", "sigmoid"),
    "softmax left out": _exchange("softmax", "pass"),
    "sigmoid left out": _exchange("sigmoid", "pass"),
    "average for largest": _exchange("max pool", "average pool"),
    "largest for average": _exchange("average pool", "max pool"),
    "largest of all for average": _exchange("global average", "global max"),
    "pool window": _attribute(("max pool", "average pool"), size=1),
    "add is subtract": _exchange("add", "subtract"),
    "add is multiply": _exchange("add", "multiply"),
    "shortcut left out": _inputs_exchanged,
    "concat in another order": _order("concat"),
    "dilation dropped": _steps(lambda s: replace(s, dilation=1, pad=1) if s.dilation > 1 else None),
    "dilation added": _steps(lambda s: replace(s, dilation=2, pad=2) if s.op == "conv" and s.size == 3 else None),
    "input mirrored": _in_front(Step("flip", "mirrored", axis=1)),
    "input channels in another order": _in_front(Step("flip", "colours")),
    "input turned": _in_front(Step("turn", "turned")),
    "input x 0.9": _in_front(Step("scale", "scaled", epsilon=0.9)),
    "map turned": _behind("relu", Step("turn", "turned")),
    "map mirrored": _behind("relu6", Step("flip", "mirrored", axis=1)),
    "logits x 0.8": _behind("dense", Step("scale", "scaled", epsilon=0.8)),
}


def verdict(source: Path, export: Path) -> tuple[str, str, Any]:
    """Return pass, fail or error for the export, the reasons, and the report."""
    try:
        model = task.compare(formats.read(source), formats.read(export), Settings()).model
    except BninspectError as error:
        return Status.ERROR.value, f"{error.what}: {error.why}", None
    reasons = [*(model.against.open if model.against else ()), *(one.reason for one in model.layers if one.reason)]
    reasons += [one.message for one in model.findings]
    reasons += [f"{layer.name}: {one.message}" for layer in model.layers for one in layer.findings]
    return model.status.value, reasons[0] if reasons else "", model


def ratios(model: Any) -> dict[str, list[float]]:
    """Return by what was compared the ratios of errors to bounds: of numbers, operations and outputs."""
    found: dict[str, list[float]] = {}
    if model is None:
        return found
    of_layers = [one for layer in model.layers if layer.counterpart for one in layer.counterpart.comparisons]
    for one in (*of_layers, *(model.against.outputs if model.against else ())):
        if one.ratio is not None:
            found.setdefault(one.observed, []).append(one.ratio)
    return found


def sources(net: SmallNet, folder: Path) -> dict[str, Path]:
    """Write a net as it is: for exports of Keras, for those of torch, and for programs of torch.export."""
    paths = {"keras": folder / "net.keras", "torch": folder / "net.pt2", "pt2": folder / "net.pt"}
    in_keras(net).save(paths["keras"])
    with quiet():
        program()(net, paths["torch"])
        script()(net, paths["pt2"])
    return paths


def source_of(kind: str, paths: Mapping[str, Path]) -> Path:
    """Return the file that an export of a kind is held against."""
    if kind.startswith("pt2"):
        return paths["pt2"]
    return paths["torch" if kind in TORCH_RIGHT else "keras"]


def off(one: Any, other: Any) -> float:
    """Return the largest difference, infinite where shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(np.asarray(one, np.float64) - other).max())


def tampered(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what became of every tampered export."""
    every = {**KERAS_KINDS, **TORCH_KINDS}
    kinds = options.kinds.split(",") if options.kinds else list(every)
    for name in options.nets.split(","):
        net = trained(name, 0)
        paths = sources(net, folder)
        samples, _ = inputs(net, 8, 4321)
        plain = np.asarray(in_keras(net)(samples, training=False))
        for kind in kinds:
            suffix, convert = every[kind]
            path = folder / f"export{suffix}"
            with quiet():
                convert(net, path)
            usual = off(outputs(path, samples), plain)
            ways = [(way, wrong) for way, change in TAMPERS.items() if (wrong := change(net)) is not None]
            if options.tampers:
                ways = [one for one in ways if one[0] in options.tampers.split(",")]
            if options.limit:
                order = random.Random(name + kind)  # others for each kind, the same each time
                ways = order.sample(ways, min(options.limit, len(ways)))
            for way, wrong in ways:
                began = time.monotonic()
                try:
                    with quiet():
                        convert(wrong, path)
                    changed = off(outputs(path, samples), plain)
                except Exception as error:  # noqa: BLE001 - a converter refuses: there is no export to judge
                    yield {"net": name, "kind": kind, "what": way, "status": "not made", "why": str(error)[:100]}
                    continue
                status, why, _ = verdict(source_of(kind, paths), path)
                counts = changed > 2 * max(usual, 2.0**-23 * float(np.abs(plain).max()))
                yield {
                    "net": name,
                    "kind": kind,
                    "what": way,
                    "status": status,
                    "why": why,
                    "off": changed,
                    "usual": usual,
                    "counts": counts,
                    "seconds": time.monotonic() - began,
                }


def right(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what became of every right export."""
    every = {**KERAS_RIGHT, **TORCH_RIGHT}
    kinds = options.kinds.split(";") if options.kinds else list(every)
    for seed in range(options.first, options.first + options.seeds):
        for name in options.nets.split(","):
            net = trained(name, seed)
            paths = sources(net, folder)
            for kind in kinds:
                suffix, convert = every[kind]
                path = folder / f"export{suffix}"
                began = time.monotonic()
                try:
                    with quiet():
                        convert(net, path)
                except Exception as error:  # noqa: BLE001 - a converter refuses: there is no export to judge
                    yield {"net": name, "kind": kind, "what": seed, "status": "not made", "why": str(error)[:100]}
                    continue
                status, why, model = verdict(source_of(kind, paths), path)
                yield {
                    "net": name,
                    "kind": kind,
                    "what": seed,
                    "status": status,
                    "why": why,
                    "counts": True,
                    "ratios": ratios(model),
                    "seconds": time.monotonic() - began,
                }


SMALLEST: Mapping[str, Callable[[float], Change]] = {
    "all weights": lambda part: _weights(LAST, 0, lambda w: w * np.float32(1 + part), last=True),
    "largest weight": lambda part: _weights(LAST, 0, _largest(1 + part), last=True),
    "largest bias": lambda part: _weights(LAST, 1, _largest(1 + part), last=True),
}
_HALVINGS = 24


def smallest(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the smallest change of the last layer, a power of two, that is a mismatch in each kind of export."""
    every = {**KERAS_KINDS, **TORCH_KINDS}
    for name in options.nets.split(","):
        net = trained(name, 0)
        paths = sources(net, folder)
        for kind in options.kinds.split(",") if options.kinds else list(every):
            suffix, convert = every[kind]
            path = folder / f"export{suffix}"
            for what, change in SMALLEST.items():
                missed, caught = _HALVINGS, -1
                while missed - caught > 1:
                    halvings = (missed + caught) // 2
                    wrong = change(2.0**-halvings)(net)
                    assert wrong is not None
                    with quiet():
                        convert(wrong, path)
                    status, _, _ = verdict(source_of(kind, paths), path)
                    missed, caught = (missed, halvings) if status == Status.FAIL.value else (halvings, caught)
                yield {"net": name, "kind": kind, "what": what, "status": "caught", "smallest": 2.0**-caught}


def show_smallest(rows: list[dict[str, Any]]) -> None:
    """Print the smallest change for each kind of export."""
    for row in rows:
        print(f"{row['net']:14} {row['kind']:14} {row['what']:16} {row['smallest']:.2g}")


def show(rows: list[dict[str, Any]], *, good: str) -> None:
    """Print how many of each kind ended how, and each that did not end as it should."""
    counted = [one for one in rows if one.get("counts")]
    print(f"{len(counted)} of {len(rows)} count")
    for kind in dict.fromkeys(one["kind"] for one in counted):
        print(f"  {kind:40}", dict(Counter(one["status"] for one in counted if one["kind"] == kind)))
    for kind in dict.fromkeys(one["kind"] for one in counted):
        every: dict[str, list[float]] = {}
        for row in counted:
            if row["kind"] == kind:
                for what, found in row.get("ratios", {}).items():
                    every.setdefault(what, []).extend(found)
        if every:
            said = (f"{what} {max(found):.2g} ({statistics.median(found):.2g})" for what, found in every.items())
            print(f"  {kind:40} worst and median of the bound: {', '.join(said)}")
    for one in rows:
        if one["status"] == "not made" or (one.get("counts") and one["status"] != good):
            print(f"  {one['net']}, {one['kind']}, {one['what']}: {one['status']} {one['why'][:300]}")


def main() -> None:
    """Make the exports, judge them, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tampered", "right", "smallest"))
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--kinds", default="")
    parser.add_argument("--tampers", default="")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for row in {"tampered": tampered, "right": right, "smallest": smallest}[options.what](options, Path(name)):
            rows.append(row)
            if options.json:
                with options.json.open("a") as lines:
                    lines.write(json.dumps(row) + "\n")
    if options.what == "smallest":
        show_smallest(rows)
        return
    show(rows, good=Status.FAIL.value if options.what == "tampered" else Status.PASS.value)


if __name__ == "__main__":
    main()
