"""Reading: `bninspect inspect` against the framework's loader and against h5py alone.

    python benchmarks/reading.py

ResNet50 and ResNet152 of keras.applications, as HDF5 and as .keras.
"""

from __future__ import annotations

from measure import arguments, baseline, bninspect, judge_peak, judge_ratio, measure, show
from resnets import cached


def main() -> None:
    """Measure, print, judge."""
    options = arguments(__doc__, rounds=5)
    for network in ("ResNet50", "ResNet152"):
        for suffix in (".h5", ".keras"):
            path = cached(options.cache, network, suffix)
            commands = {"inspect": bninspect("inspect", path), "load_model": baseline("load_model", path)}
            if suffix == ".h5":
                commands["h5py alone"] = baseline("read_h5py", path)
            print(f"\n{path.name}, {path.stat().st_size / 1e6:.0f} MB")
            measured = measure(commands, options.rounds)
            show(measured)
            judge_ratio(measured, "load_model", "inspect", least=15)
            if suffix == ".h5":
                judge_ratio(measured, "inspect", "h5py alone", most=2)
            judge_peak(measured, "inspect", most=150)


if __name__ == "__main__":
    main()
