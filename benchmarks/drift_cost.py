"""What moments cost beside a pass with the same tensors exposed, and beside a bare pass, in each runtime."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ported_nets import CLASSES, original, program
from resnets import cached
from trained_nets import Array, TrainedNet, build_torch

from bninspect import formats, runtimes
from bninspect.settings import Settings
from bninspect.statistics.data.samples import Batch
from bninspect.statistics.measure import measure
from bninspect.verdicts.verify_task import run_settings

Bare = Callable[[Array], object]
_ROUNDS = 5
"""Of which the quickest counts; the passes take turns, so that a busy machine slows all of them."""


def cost(nets: Iterator[TrainedNet]) -> None:
    """Time moments, exposed and bare passes; nets of a usual size come last."""
    import torch

    for net in nets:
        x = net.given(net.seen)
        _compare(net.recipe.name, net.paths["settled"], x, 32)
        if net.recipe.name in {"digits, Keras 3", "digits, torch, weight decay", "tiles, torch"}:
            for name, path in _exports(net, x):
                _compare(f"{net.recipe.name.split(',')[0]}, {name}", path, x, 32)
    folder = Path(tempfile.gettempdir()) / "bninspect-nets"
    images = np.random.default_rng(0).uniform(0, 255, (32, 224, 224, 3)).astype(np.float32)
    _compare("ResNet50, Keras 3", cached(folder, "ResNet50", ".keras"), images, 8)
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) / np.float32(255)
    resnet18 = original("ResNet18", 0, width=64)
    resnet18.fc = torch.nn.Linear(4 * 64 * 14 * 14, CLASSES)  # of pictures of 224 pixels, its last map is 14 by 14
    path = program(resnet18, folder / "ResNet18.pt2", 224)
    _compare("ResNet18, torch", path, planes, 8)
    for name, export in _exports_of_torch(resnet18, planes[:2], path):
        _compare(f"ResNet18, {name}", export, planes, 8)
    print(f"peak memory of it all {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def _exports(net: TrainedNet, x: Array) -> Iterator[tuple[str, Path]]:
    """Write a net for other runtimes."""
    path = net.paths["settled"]
    if net.recipe.framework == "keras":
        import keras

        folder = path.with_suffix(".saved")
        keras.models.load_model(path).export(str(folder), verbose=False)
        yield "SavedModel", folder
        return
    import torch

    model = build_torch(net.recipe, x)
    model.load_state_dict(torch.export.load(path).state_dict, strict=False)
    yield from _exports_of_torch(model, x[:4], path)


def _exports_of_torch(model: Any, x: Array, path: Path) -> Iterator[tuple[str, Path]]:
    """Write a net of torch for TorchScript and ONNX, with its batch norms as they are, beside `path`."""
    import torch

    example = torch.from_numpy(x)
    torch.jit.trace(model.eval(), example).save(str(path.with_suffix(".pt")))
    yield "TorchScript", path.with_suffix(".pt")
    given: dict[str, Any] = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    given |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    torch.onnx.export(model.eval(), (example,), str(path.with_suffix(".onnx")), **given)
    yield "ONNX", path.with_suffix(".onnx")


def _bare(path: Path) -> Bare:
    """Return a function that runs a model as one does who only wants its outputs."""
    if path.suffix in {".keras", ".h5"}:
        from importlib import import_module

        keras = import_module("keras" if path.suffix == ".keras" else "tf_keras")
        model = keras.models.load_model(path, compile=False)
        return lambda x: np.asarray(model(x, training=False))
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {session.get_inputs()[0].name: x})
    if path.suffix in {".pt", ".pt2"}:
        import torch

        program = torch.jit.load(str(path)) if path.suffix == ".pt" else torch.export.load(path).module()
        run: Bare = torch.no_grad()(lambda x: program(torch.from_numpy(x)).numpy())
        return run
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    # In a thread of its own: the stream has another graph open in this one.
    thread = ThreadPoolExecutor(1)
    return lambda x: thread.submit(lambda: loaded.serve(x).numpy()).result()


def _compare(name: str, path: Path, x: Array, size: int) -> None:
    checkpoint = formats.read(path)
    bare = _bare(path)
    parts = [np.ascontiguousarray(x[start : start + size]) for start in range(0, len(x) - size + 1, size)]
    with runtimes.open_stream(checkpoint, run_settings(Settings())) as stream:
        key = stream.inputs[0].name if stream.inputs else ""
        batches = [Batch({key: part}, size, size) for part in parts]

        def expose() -> None:
            for batch in batches:
                stream.forward(batch.arrays, lambda _: None, None)

        def run_bare() -> None:
            for part in parts:
                bare(part)

        def moments() -> None:
            measure(stream.forward, batches, checkpoint.layers)

        passes = (run_bare, expose, moments)
        used = np.array([[_seconds(one) for one in passes] for _ in range(_ROUNDS + 1)])[1:].min(axis=0)
        each = used[:, 1][2] / (len(parts) * size) * 1e3
        (plain, exposed, measured), _ = used.T
        said = f"moments {measured / exposed:.2f} x the exposed pass, {measured / plain:.2f} x the bare pass"
        print(f"{name:42} {stream.title}: {said}, {each:.3f} ms a sample", flush=True)


def _seconds(run: Callable[[], None]) -> tuple[float, float]:
    """Return seconds of the processor, and of the clock."""
    start, used = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - used, time.perf_counter() - start
