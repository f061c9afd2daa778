"""Verifying: `bninspect verify` against loading and running once, and against the script people write today.

    python benchmarks/verifying.py

ResNet50 of keras.applications, HDF5, 53 batch-norm layers.
"""

from __future__ import annotations

from measure import arguments, baseline, bninspect, judge_ratio, measure, show
from resnets import cached


def main() -> None:
    """Measure, print, judge."""
    options = arguments(__doc__, rounds=5)
    path = cached(options.cache, "ResNet50", ".h5")
    measured = measure(
        {
            "verify": bninspect("verify", path),
            "load, run once": baseline("floor", path),
            "predict per layer": baseline("per_layer", path),
        },
        options.rounds,
    )
    show(measured)
    judge_ratio(measured, "verify", "load, run once", most=1.35)
    judge_ratio(measured, "predict per layer", "verify", least=6)


if __name__ == "__main__":
    main()
