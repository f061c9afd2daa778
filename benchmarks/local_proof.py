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
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from proof_models import NETWORKS, cached, exports, source

from bninspect import formats
from bninspect.equivalence import running, tensors
from bninspect.equivalence import source as sources
from bninspect.equivalence.by_running import judge_run
from bninspect.equivalence.evidence import stretches
from bninspect.equivalence.evidence.replay import FLOOR, MARGIN
from bninspect.equivalence.evidence.rounds import Round
from bninspect.equivalence.running import Ran
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


def between(model: Path, export: Path) -> Iterator[tuple[float, float | None]]:
    """Yield of each stretch its difference in roundings of the largest, and over the change by moving what goes in."""
    with mock.patch.object(stretches, "FLOOR", 1.0), mock.patch.object(stretches, "MARGIN", 0.0):
        floor = [one for one in seen(model, export)[1].stretches if one.compared is not None and not one.kinds]
    with mock.patch.object(stretches, "FLOOR", 0.0), mock.patch.object(stretches, "MARGIN", 1.0):
        moved = [one for one in seen(model, export)[1].stretches if one.compared is not None and not one.kinds]
    for one, other in zip(floor, moved, strict=True):
        if one.wire.end != "y" and one.exact:
            assert one.compared is not None
            assert other.compared is not None
            yield one.compared.ratio or 0.0, other.compared.ratio


def main() -> None:
    """Print a line per file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(tempfile.gettempdir()) / "bninspect-benchmarks"
    parser.add_argument("--cache", type=Path, default=folder, help="folder for the models (%(default)s)")
    parser.add_argument("--stretches", action="store_true", help="look at what lies between the operations")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    options = parser.parse_args()
    found: list[tuple[float, float | None]] = []
    if not options.stretches:
        print(f"{'':26} {'':14} {'compared':>10} {'worst':>8} {'median':>7} {'steps':>7} {'median':>7}"
              f" {'cost':>7} {'saturated':>9} {'time':>8}")  # fmt: skip
    for network in options.networks:
        folder = cached(options.cache, network)
        for path in exports(folder):
            if options.stretches:
                found += between(source(folder), path)
            else:
                print(f"{network:26} {path.name:14} {operations(source(folder), path)}", flush=True)
    if found:
        _print("roundings of the largest", [one for one, _ in found], FLOOR)
        _print("over the largest change", [one for _, one in found if one is not None], MARGIN)


def _print(title: str, values: list[float], allowed: float) -> None:
    deciles = np.quantile(values, np.linspace(0, 1, 11))
    print(f"{title}: {len(values)} stretches, {allowed:g} are allowed")
    print("  " + " ".join(f"{one:.3g}" for one in deciles))


if __name__ == "__main__":
    main()
