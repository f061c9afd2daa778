"""How near right exports come to the bounds that `verify --against` allows them: operations, and what lies between.

    python benchmarks/local_proof.py              # the operations
    python benchmarks/local_proof.py --stretches  # what lies between

ResNet50, MobileNetV2, EfficientNetB0, a U-Net and four trained samples, as float32, float16, dynamic range, int8 and
int16x8 TFLite, and as float32 and int8 ONNX (QLinearConv). What is printed is what the product itself computes.

Operations: how many were recomputed from the model's numbers, their errors as parts of the derived bound (worst,
median), for whole numbers the error of the runtime in output steps (worst, median), what quantisation costs the worst
output in steps, the largest share of outputs that saturate, and the processor time of the whole comparison.

Stretches: for each the difference of the two runtimes in roundings of its largest number, which FLOOR allows for, and
over the largest change when what goes in is moved by a rounding, which MARGIN allows for where FLOOR is not enough: in
deciles and the largest; and how much the end of each changes when what goes in is moved by NUDGE, over what it has to.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from proof_models import NETWORKS, cached, exports, source

from bninspect import formats
from bninspect.equivalence import running, tensors
from bninspect.equivalence import source as sources
from bninspect.equivalence.by_running import judge_run
from bninspect.equivalence.evidence import nudges, stretches
from bninspect.equivalence.evidence.replay import FLOOR, MARGIN, Stretch
from bninspect.equivalence.evidence.rounds import Round
from bninspect.equivalence.evidence.sums import Sums
from bninspect.equivalence.running import Ran
from bninspect.records import Comparison
from bninspect.settings import Settings
from bninspect.verdicts import verify_task


def seen(model: Path, export: Path) -> tuple[Ran, Round]:
    """Hold an export against its model as `verify --against` does, and return what was seen."""
    checkpoint, settings = formats.read(model), Settings()
    trial = verify_task.Trial(checkpoint, settings)
    ran, found = running.together(
        running.exported(formats.read(export), settings),
        lambda data: sources.observed(checkpoint, trial.how, data, trial.begin),
    )
    evidence = judge_run(found, ran, checkpoint, settings)[1]
    assert evidence is not None
    return ran, evidence


def operations(model: Path, export: Path) -> str:
    """Return what the recomputed operations of an export show, in a line."""
    start = time.process_time()
    ran, evidence = seen(model, export)
    ratios, steps, costs, cut = [], [], [], []
    for place in evidence.places:
        proof = evidence.proofs[id(place.node)]
        if proof.compared is None or proof.compared.ratio is None:
            continue
        ratios.append(proof.compared.ratio)
        step = tensors.step(place.node.outputs[0], ran.network)
        if step:
            steps.append((proof.compared.max_abs or 0.0) / step)
            costs.append(proof.cost or 0.0)
            cut.append(proof.cut)
    line = f"{len(ratios):4} / {len(evidence.places):3} {max(ratios, default=0):8.4f} {_median(ratios):7.3f}"
    line += f" {max(steps):7.4f} {_median(steps):7.4f} {max(costs):7.2f} {max(cut):9.2%}" if steps else " " * 34
    return f"{line} {time.process_time() - start:6.1f} s"


def _median(values: list[float]) -> float:
    return statistics.median(values or [0.0])


@dataclass
class Between:
    """What was seen of the stretches of right exports, a number for each."""

    roundings: list[float] = field(default_factory=list)
    """Differences of the two runtimes in roundings of the largest number."""
    changes: list[float] = field(default_factory=list)
    """The same over the largest change when what goes in is moved by a rounding; infinite where nothing changes."""
    moves: list[float] = field(default_factory=list)
    """Changes when what goes in is moved by NUDGE, over the change that shows."""

    def add(self, model: Path, export: Path) -> None:
        """Add those of an export between whose operations nothing is rounded to whole numbers or halves."""
        moves: dict[str, float] = {}

        def moved(stretch: Stretch, before: Any, now: Any) -> bool:
            change = float(np.abs(now.astype(np.float64) - before).max(initial=0.0))
            moves.setdefault(stretch.wire.label, change / (2 * stretch.allowed))
            return known(stretch, before, now)

        known = nudges._moves  # noqa: SLF001 - what it compares is what is asked for
        with mock.patch.object(nudges, "_moves", moved):
            right = self._ratios(model, export, FLOOR, MARGIN)
        self.moves += [ratio for label, ratio in moves.items() if label in right]
        self.roundings += [_MANY * ratio for ratio in self._ratios(model, export, _MANY, 0.0).values()]
        with mock.patch.object(Sums, "arriving", return_value=0.0):
            self.changes += self._ratios(model, export, 0.0, 1.0).values()

    @staticmethod
    def _ratios(model: Path, export: Path, floor: float, margin: float) -> dict[str, float]:
        with mock.patch.object(stretches, "FLOOR", floor), mock.patch.object(stretches, "MARGIN", margin):
            found = seen(model, export)[1].stretches
        chosen = (one for one in found if one.exact and one.wire.end != "y" and one.compared is not None)
        return {one.wire.label: _ratio(one.compared) for one in chosen if not one.kinds}

    def show(self) -> None:
        """Print deciles: the least, nine in between, the largest."""
        for title, values in (
            (f"roundings of the largest number, {FLOOR:g} are allowed", self.roundings),
            (f"over the change by a rounding of what goes in, {MARGIN:g} are allowed", self.changes),
            (f"change by moving what goes in by {nudges.NUDGE:.0%}, over the least that counts", self.moves),
        ):
            some = [one for one in values if 0 < one < _MANY]
            print(f"{title}: {len(values)} stretches, {values.count(0.0)} of them 0, the others:")
            print("  " + " ".join(f"{one:.3g}" for one in np.quantile(some, np.linspace(0, 1, 11))), flush=True)


_MANY = 1e9
"""Roundings that no difference reaches."""


def _ratio(compared: Comparison | None) -> float:
    return float("inf") if compared is None or compared.ratio is None else compared.ratio


def main() -> None:
    """Print a line per file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(tempfile.gettempdir()) / "bninspect-benchmarks"
    parser.add_argument("--cache", type=Path, default=folder, help="folder for the models (%(default)s)")
    parser.add_argument("--stretches", action="store_true", help="look at what lies between the operations")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    options = parser.parse_args()
    between = Between()
    if not options.stretches:
        print(f"{'':26} {'':14} {'compared':>10} {'worst':>8} {'median':>7} {'steps':>7} {'median':>7}"
              f" {'cost':>7} {'saturated':>9} {'time':>8}")  # fmt: skip
    for network in options.networks:
        folder = cached(options.cache, network)
        for path in exports(folder):
            if options.stretches and not path.stem.startswith("int"):
                between.add(source(folder), path)
            elif not options.stretches:
                print(f"{network:26} {path.name:14} {operations(source(folder), path)}", flush=True)
    if options.stretches:
        between.show()


if __name__ == "__main__":
    main()
