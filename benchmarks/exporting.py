"""Holding an export against its model: `bninspect verify --against` against loading both and running both once.

    python benchmarks/exporting.py

ResNet50 of keras.applications with random batch norms, as TFLite (float32) and as ONNX. On a busy machine the ratio of
processor times, printed last, says more than that of wall times.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from measure import BASELINES, arguments, bninspect, judge_ratio, measure, show

FOLDER = "exporting"
NAMES = ("r50.h5", "r50.tflite", "r50.onnx")


def made(cache: Path) -> Path:
    """Return the folder of the three files in `cache`; a child process makes what is missing."""
    folder = cache / FOLDER
    if not all((folder / name).exists() for name in NAMES):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, __file__, "make", str(folder)], check=True, stderr=subprocess.DEVNULL)
    return folder


def make(folder: Path) -> None:
    """Build ResNet50 and convert it with TensorFlow's converter and with tf2onnx."""
    import tensorflow as tf
    import tf2onnx
    from proof_models import build, convert, inputs

    model = build("ResNet50")
    model.save(folder / NAMES[0])
    (folder / NAMES[1]).write_bytes(convert(model, "float32", inputs(model, "ResNet50", 1)))
    taken = [tf.TensorSpec((None, 224, 224, 3), tf.float32, name="x")]
    call = tf.function(lambda x: model(x, training=False), input_signature=taken)
    tf2onnx.convert.from_function(call, input_signature=taken, opset=15, output_path=str(folder / NAMES[2]))


def main() -> None:
    """Measure, print, judge."""
    options = arguments(__doc__, rounds=3)
    folder = made(options.cache)
    source = folder / NAMES[0]
    commands = {}
    for export in (folder / NAMES[1], folder / NAMES[2]):
        commands[f"verify, {export.suffix}"] = bninspect("verify", source, "--against", export)
        floor = (sys.executable, str(BASELINES / "floor_of_two.py"), str(source), str(export))
        commands[f"load and run both, {export.suffix}"] = floor
    measured = measure(commands, options.rounds)
    show(measured)
    for kind in (".tflite", ".onnx"):
        own, least = measured[f"verify, {kind}"], measured[f"load and run both, {kind}"]
        judge_ratio(measured, f"verify, {kind}", f"load and run both, {kind}", most=1.5)
        more = (own.peak - least.peak) / 2**20
        print(f"{'met' if more <= 1024 else 'MISSED':6} memory above that: {more:.0f} MB, target at most 1024")
        print(f"       processor time: {own.cpu / least.cpu:.2f} times")


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]))
    else:
        main()
